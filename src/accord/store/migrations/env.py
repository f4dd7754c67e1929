"""Alembic's entry: runs the migrations on the connection that ``Database.migrate`` hands over.

A new revision is a file in ``versions/``, written by hand, in one transaction on both databases; it
never imports ``tables.py``, which moves on. A table that SQLite has to rebuild loses its triggers:
lay them again with ``append_only.triggers``.
"""

from alembic import context

context.configure(connection=context.config.attributes["connection"], transactional_ddl=True)
with context.begin_transaction():
    context.run_migrations()
