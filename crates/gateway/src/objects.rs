//! What a provider stores for a caller (responses, files, batches) is that caller's alone: the provider knows only this
//! gateway's key, so who made what is remembered here, and everybody else is told that there is no such thing.

mod address;
pub(crate) mod google;
mod holders;
mod references;

use base::{Name, Problem};
use config::ProviderDialect;
use futures_util::future::BoxFuture;
use http::StatusCode;
use store::{Owner, StoreError, StoredObject};

pub(crate) use self::holders::{Holder, both, holders, is_owned};
pub(crate) use self::references::{form_names_object, references};

use crate::authenticate::Caller;

/// Who made what.
pub trait Objects: Send + Sync {
    /// Note who made `object` at `provider`, and with which key.
    fn claim<'a>(
        &'a self,
        provider: &'a Name,
        object: &'a str,
        made: &'a StoredObject,
    ) -> BoxFuture<'a, Result<(), StoreError>>;

    /// Who made `object` at `provider`, and with which key.
    fn made<'a>(
        &'a self,
        provider: &'a Name,
        object: &'a str,
    ) -> BoxFuture<'a, Result<Option<StoredObject>, StoreError>>;

    /// Forget what was deleted at the provider; whether it was known. Of several who ask at once one is told so.
    fn forget<'a>(&'a self, provider: &'a Name, object: &'a str) -> BoxFuture<'a, Result<bool, StoreError>>;
}

impl Objects for store::Store {
    fn claim<'a>(
        &'a self,
        provider: &'a Name,
        object: &'a str,
        made: &'a StoredObject,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        Box::pin(async move { self.stored_objects().claim(provider, object, made).await })
    }

    fn made<'a>(
        &'a self,
        provider: &'a Name,
        object: &'a str,
    ) -> BoxFuture<'a, Result<Option<StoredObject>, StoreError>> {
        Box::pin(async move { self.stored_objects().made(provider, object).await })
    }

    fn forget<'a>(&'a self, provider: &'a Name, object: &'a str) -> BoxFuture<'a, Result<bool, StoreError>> {
        Box::pin(async move { self.stored_objects().forget(provider, object).await })
    }
}

/// What is remembered of a response in the background, a batch or a file of its results until what it took has been counted.
pub(crate) fn uncounted(id: &str) -> String {
    format!("uncounted:{id}")
}

/// Collections in which providers keep what callers make.
const COLLECTIONS: [&str; 20] = [
    "/responses",
    "/files",
    "/batches",
    "/messages/batches",
    "/chat/completions",
    "/vector_stores",
    "/threads",
    "/assistants",
    "/conversations",
    "/containers",
    "/uploads",
    "/fine_tuning/jobs",
    "/evals",
    "/videos",
    "/skills",
    "/realtime/sessions",
    // Cohere's.
    "/datasets",
    "/embed-jobs",
    "/connectors",
    "/finetuning/finetuned-models",
];

/// Below a collection, but no object of it.
const NO_OBJECT: [&str; 3] = ["/responses/input_tokens", "/responses/compact", "/threads/runs"];

/// What a path below a provider's base is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Resource<'a> {
    /// A whole collection: made in by POST, listed by GET.
    Collection,
    /// One object of it, or something of that object's.
    Object(&'a str),
    /// Nothing that is stored.
    Other,
}

/// What `below` is about at a provider that speaks `dialect`.
pub(crate) fn resource_at(dialect: ProviderDialect, below: &str) -> Resource<'_> {
    if dialect == ProviderDialect::Gemini { google::resource(below) } else { resource(below) }
}

/// Whether `below` is the object itself, not something below it: `/files/file-1`.
pub(crate) fn is_whole(dialect: ProviderDialect, below: &str, id: &str) -> bool {
    let below = below.strip_suffix('/').unwrap_or(below);
    if dialect == ProviderDialect::Gemini {
        return below.ends_with(id);
    }
    COLLECTIONS.iter().any(|collection| {
        beneath(below, collection).and_then(|rest| rest.strip_prefix('/')).is_some_and(|rest| rest == id)
    })
}

/// What follows the name of a collection, in any case: not every server behind a provider's name minds it.
fn beneath<'p>(path: &'p str, collection: &str) -> Option<&'p str> {
    let (name, rest) = path.split_at_checked(collection.len())?;
    name.eq_ignore_ascii_case(collection).then_some(rest)
}

/// What `below` (`/files/file-1/content`) is about.
pub(crate) fn resource(below: &str) -> Resource<'_> {
    if NO_OBJECT.iter().any(|other| other.eq_ignore_ascii_case(below)) {
        return Resource::Other;
    }
    for collection in COLLECTIONS {
        let Some(rest) = beneath(below, collection) else { continue };
        if rest.is_empty() || rest == "/" {
            return Resource::Collection;
        }
        if let Some(id) = rest.strip_prefix('/').and_then(|rest| rest.split('/').next()) {
            return Resource::Object(id);
        }
    }
    Resource::Other
}

/// The caller as an owner.
pub(crate) fn owner_of(caller: &Caller) -> Owner {
    Owner {
        issuer: caller.issuer().to_owned(),
        subject: caller.subject().to_owned(),
        client: caller.client().map(str::to_owned),
    }
}

/// There is no such object, or it is somebody else's: the answer is the same.
pub(crate) fn not_found() -> Problem {
    Problem::client(StatusCode::NOT_FOUND, "object_not_found", "There is no such object, or it is not yours.")
}

/// Whose an object is cannot be told now: nobody gets it.
pub(crate) fn unavailable(error: &StoreError) -> Problem {
    tracing::error!(%error, "stored objects cannot be looked up");
    Problem::us(StatusCode::SERVICE_UNAVAILABLE, "store_unavailable", "This cannot be looked up now.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_path_is_about_a_collection_an_object_or_nothing_stored() {
        assert_eq!(resource("/files"), Resource::Collection);
        assert_eq!(resource("/files/file-1/content"), Resource::Object("file-1"));
        assert_eq!(resource("/responses/resp_1/cancel"), Resource::Object("resp_1"));
        assert_eq!(resource("/responses/input_tokens"), Resource::Other);
        assert_eq!(resource("/messages"), Resource::Other);
        assert_eq!(resource("/messages/batches/msgbatch_1/results"), Resource::Object("msgbatch_1"));
        assert_eq!(resource("/filesystem"), Resource::Other);
        assert_eq!(resource("/embeddings"), Resource::Other);
        assert_eq!(resource("/Files/file-1"), Resource::Object("file-1"), "some servers ignore case");
        assert_eq!(resource("/RESPONSES"), Resource::Collection);
        let is_whole = |below, id| is_whole(ProviderDialect::OpenAi, below, id);
        assert!(is_whole("/files/file-1", "file-1"));
        assert!(is_whole("/messages/batches/msgbatch_1/", "msgbatch_1"));
        assert!(!is_whole("/vector_stores/vs_1/files/file-1", "vs_1"));
    }

    proptest! {
        #[test]
        fn any_path_and_body_are_judged_without_panic(path in "(/(files|batches|models|operations|a)){0,2}[a-zé/_:]{0,20}", body in any::<Vec<u8>>()) {
            resource(&path);
            if let Resource::Object(key) = google::resource(&path) {
                prop_assert!(path.contains(key) && key.split('/').count() == 2, "one name of one collection: {}", key);
            }
            references(&body);
            form_names_object(&body);
        }
    }
}
