"""The admission webhook: advice and early refusal; the reservation in the journal is the lock.

`review.py` decides (pure), `fit.py` compares prices with what is left, `cluster.py` reads the API
server, `certificates.py` keeps the TLS context current, `server.py` answers.
"""
