"""What was probably meant by an unknown key of params.yaml: where it has moved, or the key of a similar name."""

from transformer.section import Location, Section, did_you_mean

MOVED = {
    **{f"training.{key}": f"compute.{key}" for key in ("device", "devices", "nodes", "threads")},
    **{f"preparation.{key}": f"compute.{key}" for key in ("executor", "scheduler")},
    "preparation.max_words": "preparation.filters.length",
    "preparation.max_length_ratio": "preparation.filters.length_ratio",
    "preparation.near_duplicate_jaccard": "preparation.filters.held_out",
}


def known_keys(params: type[Section], location: Location) -> str:
    """What to write instead of the unknown key at `location` of `params`, the type of the whole file."""
    key = ".".join(map(str, location))
    if key in MOVED:
        return f"it has moved, write {MOVED[key]} instead"
    section = params
    for step in location[:-1]:
        section = _sections(section)[str(step)]
    return f"allowed here: {', '.join(section.model_fields)}{_right_key(params, location, section)}"


def _sections(section: type[Section]) -> dict[str, type[Section]]:
    kinds = {name: field.annotation for name, field in section.model_fields.items()}
    return {name: kind for name, kind in kinds.items() if isinstance(kind, type) and issubclass(kind, Section)}


def _right_key(params: type[Section], location: Location, section: type[Section]) -> str:
    """The key that was probably meant: one of that name elsewhere, or one of a similar name here."""
    name, path = str(location[-1]), [str(step) for step in location[:-1]]
    elsewhere = [place for place, kind in _sections(params).items() if name in kind.model_fields]
    if elsewhere:
        return f"; did you mean {elsewhere[0]}.{name}?"
    return did_you_mean(name, list(section.model_fields), lambda key: ".".join([*path, key]))
