"""The SQL statements of `planner.Planner`, all constant. Clips are matched by key: (identity, video, clip)."""

from pipelines.planning.layouts import TRAIN
from pipelines.planning.plan import MISSING
from pipelines.planning.sources import WHOLE_VIDEO

TABLES = """
CREATE TABLE found (identity TEXT, video TEXT, clip TEXT, source TEXT, location TEXT, offset INTEGER, num_bytes INTEGER,
    checksum TEXT, split TEXT, fallback TEXT);
CREATE TABLE box_files (identity TEXT, video TEXT, clip TEXT, boxes TEXT);
CREATE TABLE planned (identity TEXT, video TEXT, clip TEXT, source TEXT, boxes TEXT, num_bytes INTEGER, split TEXT);
CREATE TABLE clips (identity TEXT, video TEXT, clip TEXT, source TEXT, location TEXT, offset INTEGER, num_bytes INTEGER,
    checksum TEXT, split TEXT, boxes TEXT, known INTEGER DEFAULT 0, gone INTEGER DEFAULT 0, duplicate_of TEXT);
CREATE TABLE identities (identity TEXT PRIMARY KEY, split TEXT);
CREATE VIEW requested_splits AS
    SELECT identity, min(split) AS low, max(split) AS high FROM (
        SELECT identity, split FROM clips WHERE NOT gone AND split IS NOT NULL
        UNION ALL SELECT identity, split FROM planned
    ) GROUP BY identity;
"""
"""`found` and `box_files` hold the listing, `planned` the earlier plan, `clips` the listing with its boxes.

`known` clips are in the earlier plan, or left out; `gone` ones belong to a forgotten identity.
"""

INSERT_FOUND = """
INSERT INTO found VALUES
    (:identity, :video, :clip, :source, :location, :offset, :num_bytes, :checksum, :split, :fallback)
"""
INSERT_BOX_FILE = "INSERT INTO box_files VALUES (:identity, :video, :clip, :boxes)"
INSERT_PLANNED = "INSERT INTO planned VALUES (:identity, :video, :clip, :source, :boxes, :num_bytes, :split)"
INDEX_PLANNED = """
CREATE INDEX planned_by_key ON planned (identity, video, clip);
CREATE INDEX planned_by_source ON planned (source, boxes);
"""

# Videos of a flat folder that differ only in their suffix are named with it (`fallback`). Planned names stay.
NAME_FLAT_VIDEOS = """
CREATE INDEX found_by_name ON found (identity, video, clip);
UPDATE found SET identity = fallback, video = fallback
    WHERE fallback IS NOT NULL AND (identity, video, clip) IN (
        SELECT identity, video, clip FROM found GROUP BY 1, 2, 3 HAVING count(*) > 1
    );
UPDATE found SET (identity, video) = (SELECT identity, video FROM planned p WHERE p.source = found.source)
    WHERE fallback IS NOT NULL AND EXISTS (SELECT 1 FROM planned p WHERE p.source = found.source);
UPDATE found SET identity = fallback, video = fallback
    WHERE fallback IS NOT NULL AND EXISTS (
        SELECT 1 FROM planned p
        WHERE p.identity = found.identity AND p.video = found.video AND p.source != found.source
    );
"""

COUNT_LISTED = "SELECT count(*) AS films, count(DISTINCT identity) AS identities FROM found"
LISTED_IDENTITIES = "SELECT identity FROM clips UNION SELECT identity FROM planned"

# A whole video is cut by the box files of its video; a clip takes the box file of its own name.
JOIN_BOXES = f"""
CREATE INDEX box_files_by_key ON box_files (identity, video, clip);
INSERT INTO clips (identity, video, clip, source, location, offset, num_bytes, checksum, split, boxes)
    SELECT f.identity, f.video, f.clip, source, location, offset, num_bytes, checksum, split, boxes
        FROM found f LEFT JOIN box_files b USING (identity, video, clip) WHERE f.clip != '{WHOLE_VIDEO}'
    UNION ALL
    SELECT f.identity, f.video, coalesce(b.clip, '0'), source, location, offset, num_bytes, checksum, split, boxes
        FROM found f LEFT JOIN box_files b USING (identity, video) WHERE f.clip = '{WHOLE_VIDEO}';
DROP TABLE found;
"""

# Forgotten clips stay listed until copies of them under other names are found; `known` keeps them out of shards.
MARK_FORGOTTEN = "UPDATE clips SET known = 1, gone = 1 WHERE is_forgotten(identity)"
COUNT_FORGOTTEN = "SELECT count(*) FROM clips WHERE gone"
MARK_KNOWN = """
UPDATE clips SET known = 1 WHERE EXISTS (
    SELECT 1 FROM planned p WHERE p.identity = clips.identity AND p.video = clips.video AND p.clip = clips.clip
)
"""
INDEX_CLIPS = "CREATE INDEX clips_by_key ON clips (identity, video, clip)"
FIRST_REPEATED_KEY = """
SELECT identity, video, clip, min(source) AS first_source, max(source) AS second_source
    FROM clips GROUP BY 1, 2, 3 HAVING count(*) > 1 ORDER BY 1, 2, 3 LIMIT 1
"""
# A file that was missing may have been put there since; `retry` takes it in.
CHANGED_SOURCES = f"""
SELECT c.source AS source FROM clips c JOIN planned p USING (identity, video, clip)
    WHERE (c.num_bytes != p.num_bytes OR c.source != p.source) AND p.num_bytes != {MISSING} ORDER BY 1 LIMIT 20
"""
COUNT_MISSING = """
SELECT count(*) FROM planned p WHERE NOT EXISTS (
    SELECT 1 FROM clips c WHERE c.identity = p.identity AND c.video = p.video AND c.clip = p.clip
)
"""
COUNT_KNOWN = "SELECT count(*) FROM clips WHERE known AND NOT gone"
COUNT_NEW = "SELECT count(*) FROM clips WHERE NOT known"

# Where a corpus has people for validation, those of its folders for training train, unless they are held out. Planned
# identities stay where they are.
COUNT_TRAIN_FOLDERS = f"SELECT count(*) FROM clips WHERE split = '{TRAIN}'"
SETTLE_TRAIN_FOLDERS = f"""
CREATE TEMP TABLE elsewhere AS
    SELECT identity FROM clips WHERE split IN ('val', 'test') UNION SELECT identity FROM planned;
UPDATE clips SET split = CASE
    WHEN EXISTS (SELECT 1 FROM clips c WHERE c.split = 'val') AND identity NOT IN (SELECT identity FROM elsewhere)
        AND NOT is_held_out(identity) THEN 'train'
    END WHERE split = '{TRAIN}';
DROP TABLE elsewhere;
"""

FIRST_CONTRADICTORY_SPLIT = "SELECT identity, low, high FROM requested_splits WHERE low != high LIMIT 1"
COUNT_REQUESTED_TEST = "SELECT count(*) FROM clips WHERE split = 'test' AND NOT gone"
COUNT_HELD_OUT = "SELECT count(*) FROM (SELECT DISTINCT identity FROM clips) WHERE is_held_out(identity)"
ASSIGN_SPLITS = """
INSERT INTO identities
    SELECT i.identity, coalesce(low, split_of(i.identity)) FROM (
        SELECT identity FROM clips WHERE NOT gone UNION SELECT identity FROM planned
    ) i LEFT JOIN requested_splits USING (identity)
"""
COUNT_TRAIN_IDENTITIES = "SELECT count(*) FROM identities WHERE split = 'train'"
MOVE_ONE_TO_TRAIN = """
UPDATE identities SET split = 'train' WHERE identity = (
    SELECT i.identity FROM identities i WHERE i.identity NOT IN (SELECT identity FROM requested_splits)
    ORDER BY name_hash(i.identity), 1 LIMIT 1
)
"""

# Excerpts of one video share a file and are not duplicates.
LIST_SAME_SIZE = """
CREATE INDEX clips_by_source ON clips (source);
CREATE INDEX clips_by_size ON clips (num_bytes);
CREATE TABLE alike AS
    SELECT c.rowid AS id, num_bytes || '' AS print FROM clips c
    WHERE (
        boxes IS NULL OR NOT EXISTS (SELECT 1 FROM clips o WHERE o.source = c.source AND o.rowid != c.rowid)
    ) AND num_bytes > 0 AND num_bytes IN (SELECT num_bytes FROM clips GROUP BY num_bytes HAVING count(*) > 1);
"""
DROP_UNIQUE_PRINTS = """
CREATE INDEX alike_by_print ON alike (print);
DELETE FROM alike WHERE print IN (SELECT print FROM alike GROUP BY print HAVING count(*) < 2);
DROP INDEX alike_by_print;
"""
ALIKE_CLIPS = "SELECT a.rowid AS alike_id, a.print, c.* FROM alike a JOIN clips c ON c.rowid = a.id"
UPDATE_PRINT = "UPDATE alike SET print = :print WHERE rowid = :alike_id"
# A clip is a duplicate of a planned clip, else of the one with the smallest key. A copy of a forgotten identity's clip
# is left out like the clip itself.
MARK_DUPLICATES = """
CREATE INDEX alike_by_print ON alike (print);
CREATE INDEX alike_by_id ON alike (id);
UPDATE clips SET duplicate_of = (
    SELECT o.identity || '/' || o.video || '/' || o.clip
    FROM alike a JOIN alike b USING (print) JOIN clips o ON o.rowid = b.id
    WHERE a.id = clips.rowid AND o.rowid != clips.rowid
        AND (o.known OR (o.identity, o.video, o.clip) < (clips.identity, clips.video, clips.clip))
    ORDER BY o.known DESC, o.identity, o.video, o.clip LIMIT 1
) WHERE NOT known AND rowid IN (SELECT id FROM alike);
UPDATE clips SET known = 1, gone = 1, duplicate_of = NULL WHERE NOT known AND EXISTS (
    SELECT 1 FROM alike a JOIN alike b USING (print) JOIN clips o ON o.rowid = b.id WHERE a.id = clips.rowid AND o.gone
);
"""
COUNT_DUPLICATES = "SELECT count(*) FROM clips WHERE duplicate_of IS NOT NULL AND NOT gone"

COUNT_NEW_OF_SPLIT = """
SELECT count(*) FROM clips c JOIN identities i USING (identity) WHERE NOT known AND i.split = :split
"""
COUNT_NEW_VIDEOS_OF_SPLIT = """
SELECT count(*) FROM (
    SELECT DISTINCT identity, video FROM clips c JOIN identities i USING (identity) WHERE NOT known AND i.split = :split
)
"""
NEW_CLIPS_OF_SPLIT = """
SELECT c.identity, c.video, c.clip, c.source, c.num_bytes, c.location, c.offset, c.boxes, c.duplicate_of
    FROM clips c JOIN identities i USING (identity) WHERE NOT known AND i.split = :split
    ORDER BY video_hash(c.identity, c.video), c.identity, c.video, c.clip
"""
