"""The pages a scientist reads.

Owns how tables and pictures become HTML pages with their figures beside them; refuses files and paths: templates come
in as text, pages go out as bytes, and a script saves them.
"""

from plateline.report.pages import plate_page, screen_page
from plateline.report.picks import pick_wells, plate_table

__all__ = ["pick_wells", "plate_page", "plate_table", "screen_page"]
