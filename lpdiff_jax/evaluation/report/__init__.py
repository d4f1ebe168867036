"""The report: figures with intervals, tables, charts, pages."""
