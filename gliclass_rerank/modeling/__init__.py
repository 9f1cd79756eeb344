"""The GLiClass network: its settings, its encoder and its scoring head.

An encoder family is a file here: ``bert`` (BERT, DistilBERT, ELECTRA, RoBERTa, XLM-RoBERTa, MPNet), ``modernbert`` and
``deberta``. To add one:

1. Write ``modeling/<family>.py`` with a function like ``modernbert.encode_modernbert``, which runs the encoder on
   packed sequences. A family without one runs on padded sequences.
2. Enter its ``model_type`` in ``encoders.FAMILIES``, and in ``config.ENCODERS``; settings of its own go into
   ``encoder_settings.py``.
3. ``tests/test_parity.py`` and ``tests/test_packed.py`` then compare it with the official library.

The other files: ``encoders`` builds an encoder and picks its family's function, ``attention`` is shared by families,
``heads`` holds poolings and scorers, ``gliclass`` joins encoder and head, ``linear`` makes linear layers fast on CPUs.
"""
