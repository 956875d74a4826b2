//! Every recording there is, in front of a mock that replays it: through the endpoint here that speaks its dialect, where
//! there is one, and through `/providers/`. What the provider sent is what the client gets, and the provider is sent what
//! the client wrote.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, StatusCode};
use http_body_util::Full;
use serde_json::Value;
use testkit::mock::{self, Cassette, Mock, Received};

use super::exact::{same_answer, same_request, without_usage};
use super::home::{self, Home};
use super::table::{Figures, Table};
use crate::support::{self, Answer, Gateway, secret_file};

/// How many bytes at once the mock sends, besides everything: odd places of lines, characters and events.
const ODD: usize = 41;

/// Why a recording that does not come out as it went in is not meant to; `None`: it is.
fn excuse(cassette: &Cassette, why: &str) -> Option<&'static str> {
    if cassette.status == 401 && why == "401 became 502 provider_key_refused" {
        return Some(
            "401: what a provider thinks of the key is the operator's affair, and its text may show part of the key",
        );
    }
    if cassette.is_stream
        && cassette.content_type == "application/json"
        && why.ends_with("became \"text/event-stream; charset=utf-8\"")
    {
        return Some("a stream that calls itself JSON is called what it is; each byte of it is the same");
    }
    let error = cassette.response_headers.iter().find(|(name, _)| name == "x-amzn-errortype");
    if error.is_some() && why == "403 became 502 provider_key_refused" {
        return Some("403 of AWS's about the key: the same");
    }
    None
}

/// The running product with every provider that recorded anything.
struct World {
    gateway: Gateway,
    mock: Mock,
    token: String,
    owner: store::Owner,
}

/// One question: where it is sent, and what.
struct Question {
    method: Method,
    path: String,
    body: Vec<u8>,
    kind: Option<String>,
    provider: String,
}

impl World {
    async fn start(homes: &BTreeMap<String, Home>) -> Self {
        let mock = Mock::start().await;
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let key = secret_file(dir.path(), "provider-key", "fake-provider-key-for-cassettes");
        let mut config = support::APP.to_owned();
        let named: BTreeMap<&str, &Home> = homes.values().map(|home| (home.name.as_str(), home)).collect();
        let mut lists = Vec::new();
        for (name, home) in &named {
            config.push_str(&support::provider(name, home.kind, &format!("{}{}", mock.url(), home.base), &key));
            // As an operator would who lets callers name what is in them.
            if name.starts_with("vertex") {
                config.push_str(
                    "buckets = [\"gs://pydantic-ai-test-files-vertex/test-files\", \"gs://pydantic-ai-dev\"]\n",
                );
            } else if home.kind == "bedrock" {
                config.push_str("buckets = [\"s3://pydantic-ai-test-files/test-files\"]\n");
            }
            if let Some(api) = home.api {
                config.extend(["api = \"", api, "\"\n"]);
            }
            lists.push(format!(
                "{{ provider = \"{name}\", methods = [\"GET\", \"POST\", \"DELETE\"], paths = [\"/**\"] }}"
            ));
        }
        let lists: Vec<_> = lists.chunks(60).map(|lists| lists.join(", ")).collect();
        config.extend(lists.iter().enumerate().map(|(at, list)| {
            format!(
                "\n[[policy]]\nname = \"native-{at}\"\nwho = {{ client = \"app\" }}\nmay = {{ passthrough = [{list}] }}\n"
            )
        }));
        let gateway = Gateway::start_in(dir, &config).await;
        let token = gateway.token("app").await;
        let owner =
            store::Owner { issuer: "vouchgate".to_owned(), subject: "app".to_owned(), client: Some("app".to_owned()) };
        Self { gateway, mock, token, owner }
    }

    /// Ask, with the mock answering so; the answer, and what reached the mock.
    async fn ask(&self, question: &Question, reply: &mock::Answer) -> (Answer, Option<Arc<Received>>) {
        let first = self.ask_once(question, reply).await;
        if first.0.status != StatusCode::NOT_FOUND || first.1.is_some() {
            return first;
        }
        // What the caller did not store through here it cannot name. Once it is the caller's, it is asked again.
        let objects = self.gateway.server().operations().store().stored_objects();
        let text = String::from_utf8_lossy(&question.body).into_owned();
        let value: Value = serde_json::from_str(&text).unwrap_or_default();
        let mut named = BTreeSet::new();
        words(&value, &mut named);
        let path: Vec<&str> = question.path.split(['/', '?', ':']).skip(3).collect();
        named.extend(path.iter().map(|part| (*part).to_owned()));
        // Google's names have their collection before them.
        named.extend(path.windows(2).map(|pair| pair.join("/")));
        for object in named.iter().filter(|object| !object.is_empty()) {
            objects.claim(&question.provider.parse().unwrap(), object, &self.owner.clone().into()).await.unwrap();
        }
        self.ask_once(question, reply).await
    }

    async fn ask_once(&self, question: &Question, reply: &mock::Answer) -> (Answer, Option<Arc<Received>>) {
        let before = self.mock.count();
        self.mock.push(reply.clone());
        let mut request = self.gateway.request(question.method.clone(), &question.path, &self.token);
        if let Some(kind) = &question.kind {
            request = request.header("content-type", kind);
        }
        let body = Full::new(Bytes::from(question.body.clone()));
        let answer = self.gateway.send(request.body(body).unwrap()).await;
        let received = self.mock.requests().get(before).cloned();
        if received.is_none() {
            // Refused before it left: the reply waits, and must not go to the next request.
            self.mock.forget();
        }
        (answer, received)
    }
}

/// Everything in a request that may be the id of something stored, whole and behind its last slash.
fn words(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::String(text) if text.len() < 256 && !text.contains(char::is_whitespace) => {
            let parts: Vec<&str> = text.rsplitn(3, '/').collect();
            found.insert(text.to_owned());
            found.extend(parts.first().map(|last| (*last).to_owned()));
            if let [last, collection, ..] = parts.as_slice() {
                found.insert(format!("{collection}/{last}"));
            }
        }
        Value::Array(items) => items.iter().for_each(|item| words(item, found)),
        Value::Object(members) => members.values().for_each(|member| words(member, found)),
        _ => {}
    }
}

#[tokio::test]
async fn every_recording_comes_out_as_its_provider_sent_it() {
    let Some(all) = Cassette::all() else {
        return vectors::skipped("every_recording_comes_out_as_its_provider_sent_it");
    };
    let homes = home::homes(all);
    let world = World::start(&homes).await;
    let mut table = Table::new("Every recording, as its provider sent it");
    let mut figures = Figures::default();
    for cassette in all {
        let home = &homes[&cassette.id];
        let (body, kind) = home::body(cassette);
        let row = format!("{} {}", cassette.provider, cassette.endpoint);
        let question = |path: String, body: Vec<u8>, kind| Question {
            method: cassette.method.parse().unwrap(),
            path,
            body,
            kind,
            provider: home.name.clone(),
        };
        let native = question(home.native(), body.clone(), kind.clone());
        let native = one(&world, cassette, &native, (&body, Some(&home.target())), &mut table).await;
        let own = match home.own {
            Some(own) => {
                let (path, sent, wanted) = home::own(cassette, home, own);
                let asked = question(path, sent, kind.clone());
                Some(one(&world, cassette, &asked, (&wanted, None), &mut table).await)
            }
            None => None,
        };
        figures.note((&cassette.provider, &cassette.endpoint), own.as_ref().map(Result::is_ok), native.is_ok());
        for (row, outcome) in [(format!("/providers {row}"), Some(native)), (row, own)] {
            let Some(outcome) = outcome else { continue };
            match outcome.as_ref().err().and_then(|why| excuse(cassette, why)) {
                Some(reason) => table.excuse(&row, reason),
                None => table.note(&row, &cassette.id, outcome),
            }
        }
    }
    table.finish(2400, &[]);
    documented(&figures.markdown());
    world.gateway.stop().await;
}

/// The figures are those of the documentation.
fn documented(figures: &str) {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/translation.md");
    let text = std::fs::read_to_string(file).unwrap();
    let (_, section) = text.split_once("<!-- recordings -->\n").expect("docs/translation.md has the table");
    let (told, _) = section.split_once("<!-- end of recordings -->").expect("the table has an end");
    assert!(told == figures, "docs/translation.md tells other figures; these are true:\n{figures}");
}

/// Ask twice, answered at once and in small pieces.
async fn one(
    world: &World,
    cassette: &Cassette,
    question: &Question,
    (recorded, target): (&[u8], Option<&str>),
    table: &mut Table,
) -> Result<(), String> {
    let asked: Value = serde_json::from_slice(recorded).unwrap_or_default();
    let path = question.path.split('?').next().unwrap_or_default();
    let stripped = (path.ends_with("/chat/completions") || path == "/v1/completions")
        && asked["stream"] == true
        && cassette.status == 200
        && asked["stream_options"]["include_usage"] != true
        && cassette.is_stream;
    for whole in [true, false] {
        let reply = mock::Answer::cassette(cassette);
        let reply = if whole { reply } else { reply.pieces(ODD) };
        let (answer, received) = world.ask(question, &reply).await;
        let Some(received) = received else {
            return Err(format!("refused: {}", answer.text()));
        };
        if let Some(target) = target
            && (received.target != target || received.method != cassette.method)
        {
            return Err(format!("sent to {} {}", received.method, received.target));
        }
        same_request(&received, recorded, &asked)?;
        let expected = if stripped { without_usage(&cassette.response_body) } else { cassette.response_body.clone() };
        if whole && expected != cassette.response_body {
            table.count("a usage chunk the client did not ask for was taken out of its stream");
        }
        same_answer(&answer, cassette, &expected)?;
    }
    Ok(())
}
