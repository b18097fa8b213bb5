"""The published tag recommenders that KDGAN is compared with (Table 2)."""
