"""Edits of neurons in the live network: does the path drive the prediction?"""
