"""Classify Herlev's cells with networks, measurements and frozen features, alone and stacked, each fold held out in
turn.
"""
