"""The last stage: figures and the report page, drawn from plain numbers and tables, without torch or a model."""
