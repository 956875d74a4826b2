//! What the configuration will have and this version does not: refused by name, never ignored.

/// Keys, by their path without indices, and what they are for.
const KEYS: &[(&str, &str)] = &[("guard", "guards"), ("policy.guard", "guards")];

/// Values, by the path of their key.
const VALUES: &[(&str, &[&str])] = &[];

/// What the key at `path` would be for, if it is one of a later version's.
pub(crate) fn key(path: &str) -> Option<&'static str> {
    let path = without_indices(path);
    KEYS.iter().find(|(key, _)| *key == path).map(|(_, what)| *what)
}

/// Whether `value` at `path` is one of a later version's.
pub(crate) fn value(path: &str, value: &str) -> bool {
    let path = without_indices(path);
    VALUES.iter().any(|(key, values)| *key == path && values.contains(&value))
}

/// `model[0].targets[1]` as `model.targets`.
fn without_indices(path: &str) -> String {
    let mut plain = String::with_capacity(path.len());
    let mut inside = false;
    for c in path.chars() {
        match c {
            '[' => inside = true,
            ']' => inside = false,
            c if !inside => plain.push(c),
            _ => {}
        }
    }
    plain
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ProviderKind;

    #[test]
    fn the_kinds_not_built_are_those_of_the_type() {
        for kind in ProviderKind::ALL {
            assert_eq!(value("provider[3].kind", kind.as_str()), !kind.is_built(), "{kind}");
        }
    }
}
