//! Which steps bring a database's schema up to date.

use crate::StoreError;

/// One step: forward only, never changed once released.
#[derive(Debug)]
pub(crate) struct Migration {
    pub(crate) version: u64,
    pub(crate) name: &'static str,
    pub(crate) sql: &'static str,
}

/// The steps a database at `found` lacks. Refuses one that is ahead of this program: what a newer version means by
/// its tables cannot be guessed.
pub(crate) fn pending(
    found: u64,
    all: &'static [Migration],
) -> Result<impl Iterator<Item = &'static Migration>, StoreError> {
    let known = all.last().map_or(0, |newest| newest.version);
    if found > known {
        return Err(StoreError::NewerSchema { found, known });
    }
    Ok(all.iter().filter(move |migration| migration.version > found))
}

/// The steps up to a version, at which a backup is put in before the others follow. Refuses a version this program does not
/// know, and none at all.
pub(crate) fn up_to(version: u64, all: &'static [Migration]) -> Result<&'static [Migration], StoreError> {
    let known = all.last().map_or(0, |newest| newest.version);
    if version > known {
        return Err(StoreError::NewerSchema { found: version, known });
    }
    match all.iter().position(|step| step.version == version) {
        Some(index) => Ok(all.get(..=index).unwrap_or(all)),
        None => Err(StoreError::Row("there is no such version of the schema")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    static STEPS: &[Migration] =
        &[Migration { version: 1, name: "first", sql: "" }, Migration { version: 2, name: "second", sql: "" }];

    #[test]
    fn only_missing_steps_are_taken_in_order() {
        let versions = |found| pending(found, STEPS).map(|steps| steps.map(|step| step.version).collect::<Vec<_>>());
        assert_eq!(versions(0).ok(), Some(vec![1, 2]));
        assert_eq!(versions(1).ok(), Some(vec![2]));
        assert_eq!(versions(2).ok(), Some(vec![]));
    }

    #[test]
    fn steps_are_taken_up_to_a_version_that_is_known() {
        let versions = |version| up_to(version, STEPS).map(<[_]>::len).map_err(|error| error.reason());
        assert_eq!((versions(1), versions(2)), (Ok(1), Ok(2)));
        assert_eq!((versions(0), versions(3)), (Err("store_row"), Err("store_newer_schema")));
    }

    #[test]
    fn a_newer_schema_is_refused_with_a_sentence() {
        let error = pending(3, STEPS).err().unwrap();
        assert_eq!(error.reason(), "store_newer_schema");
        assert!(error.to_string().contains("version 3") && error.to_string().contains("up to 2"));
    }
}
