"""Recommendation at serving time: the item table, the index of items, and the two models that retrieve and rank.

Runs on onnxruntime and faiss, without torch.
"""
