"""Networks and their numpy preprocessing, which training and serving share.

Only trainers, the conversion of packages and the backend for a GPU import the modules with torch (`convnet.py`,
`efficientnet_lite.py`, `hashed_linear.py`, `listener.py`, `sentence_encoder.py`, `translator.py`, `onnx_files.py`); the others use numpy.

May import: `streams`, `schemas`; no other folder of this package.
Next change: a network or its preprocessing. A change here changes the answers of shipped versions;
`tests/contract/test_networks.py` compares them.
"""
