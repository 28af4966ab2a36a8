"""What applications tell by hand: functions, blocks of their own code, and queues.

All of it goes one way: `arguments` checks what is given, `telling` hands it to the ledger and to the histograms.
"""
