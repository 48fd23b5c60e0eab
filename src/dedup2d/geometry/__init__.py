"""
Geometry: a drawing's entities as plug-ins send them ("v2 geometry JSON"), read, hashed, stored and scored.

Reading and scoring need the extra `engine`; what scores are (`result`) and the store (`storing`) do not.
"""
