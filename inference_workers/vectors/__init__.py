"""Vectors of embedding tasks: kept in Parquet files and in an index, and searched.

`result_vectors.py` reads results, `index_files.py` and `index_builder.py` make the index of what the files hold, `vector_search.py`
finds the nearest, `vector_loops.py` is the process and `nearest.py` the command. May import: `recommending/item_index.py`, where FAISS
is, and `streams/`.
"""
