"""The contracts between processes: topics, Avro records, features, codec, errors. See README.md."""
