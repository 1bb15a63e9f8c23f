"""Packing: samples of different lengths set one after another into sequences of one length."""
