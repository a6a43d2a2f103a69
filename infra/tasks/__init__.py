"""`./millrace tasks …`: adds, lists, checks and removes declared tasks.

May import: `infra/local/` and below. The file and its copy that processes follow: `infra/declared.py`.
"""
