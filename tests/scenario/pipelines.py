"""Pipeline files that several scenarios use."""
from connectd import flat_config

STRING = "StringConverter"


def topic(name, partitions, **config):
    lines = ["topics:", f"  {name}:", f"    partitions: {partitions}"]
    lines += [f"    {k.replace('_', '.')}: {v}" for k, v in config.items()]
    return "\n".join(lines) + "\n"


def file_source(name, file, to, **more):
    return flat_config(name, connector_class="FileStreamSource", file=file, topic=to,
                       value_converter=STRING, **more)


def file_sink(name, topics, file, **more):
    return flat_config(name, connector_class="FileStreamSink", topics=topics, file=file,
                       value_converter=STRING, **more)


def sqlite_sink(name, topics, db, **more):
    """A table that would show a row twice: no primary key, plain inserts. pk= makes it an upsert."""
    pk = more.pop("pk", None)
    keys = {"connector.class": "SqliteSink", "topics": topics, "connection.url": db, "auto.create": "true",
            "insert.mode": "upsert" if pk else "insert", "pk.mode": "record_value" if pk else "none"}
    if pk:
        keys["pk.fields"] = pk
    text = f"connectors:\n  {name}:\n"
    text += "".join(f"    {k}: \"{v}\"\n" for k, v in keys.items())
    return text + "".join(f"    {k.replace('_', '.')}: \"{v}\"\n" for k, v in more.items())
