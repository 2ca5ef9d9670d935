-- Which life of a topic an offset belongs to.

-- The broker's id of the topic when the partition was first assigned, or first assigned after an operator set the offset;
-- null until then. A topic that is deleted and created again under its name has another one.
alter table inbox.progress add column topic_id uuid;
