//! Requests with an app's token: stolen, replayed, changed; and the provider's key, which no app has.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Uri};
use serde_json::{Value, json};
use testkit::dpop::Holder;
use testkit::signature::Signing;
use vouchgate_client::clock::{Clock as _, SystemClock};
use vouchgate_client::{Client, Options, Proof};

use super::{ANSWER, PROVIDER_KEY, World, chat, read};

const PATH: &str = "/v1/chat/completions";

async fn status(client: &Client, request: Request<Bytes>) -> u16 {
    client.send_as_is(request).await.unwrap().status.as_u16()
}

/// A request with these fields.
fn with(headers: &HeaderMap, path: &str, body: &Bytes) -> Request<Bytes> {
    let mut request = Request::post(path).body(body.clone()).unwrap();
    request.headers_mut().clone_from(headers);
    request
}

async fn signed(client: &Client, request: &Request<Bytes>) -> HeaderMap {
    client.sign(&Method::POST, request.uri(), request.headers(), request.body()).await.unwrap()
}

#[tokio::test]
async fn the_provider_s_key_is_in_no_app_and_no_answer() {
    let world = World::new().await;
    let client = world.client(Arc::new(world.iphone()));
    let answer = client.send(chat("fast")).await.unwrap();
    let headers = format!("{:?}", answer.headers);
    let (status, said) = read(answer).await;
    assert_eq!((status, said["choices"][0]["message"]["content"].as_str()), (200, Some(ANSWER)));
    assert_eq!(world.upstream.requests()[0].header("authorization"), Some(format!("Bearer {PROVIDER_KEY}").as_str()));
    let token = client.token().await.unwrap();
    assert!(![headers, said.to_string(), token.clone()].iter().any(|text| text.contains(PROVIDER_KEY)));
    let upstream = format!("{:?}", world.upstream.requests()[0]);
    assert!(!upstream.contains(&token), "the token stays with the gateway");
    // Somebody who has the key somehow gets nothing here for it.
    for field in ["authorization", "x-api-key", "x-goog-api-key"] {
        let value = if field == "authorization" { format!("Bearer {PROVIDER_KEY}") } else { PROVIDER_KEY.to_owned() };
        let mut request = chat("fast");
        request.headers_mut().insert(field, HeaderValue::try_from(value).unwrap());
        assert_eq!(self::status(&client, request).await, 401, "{field}");
    }
    assert_eq!(world.upstream.count(), 1);
}

#[tokio::test]
async fn a_stolen_token_is_worth_nothing_without_the_key() {
    let world = World::new().await;
    let client = world.signing().await;
    let token = client.token().await.unwrap();
    for scheme in ["Bearer", "DPoP"] {
        let mut request = chat("fast");
        let value = HeaderValue::try_from(format!("{scheme} {token}")).unwrap();
        request.headers_mut().insert("authorization", value);
        assert_eq!(status(&client, request).await, 401, "{scheme}");
    }
    // With proofs by a key of the thief's own.
    let thief = Holder::new("ES256");
    let url = format!("{}{PATH}", world.url());
    let authorization = format!("Bearer {token}");
    let now = SystemClock.now();
    let body = chat("fast").into_body();
    let signing = Signing::new(&thief, "POST", &url, ("authorization", &authorization), now);
    let signing = signing.body("application/json", &body);
    let claims: Value = {
        use base64::Engine as _;
        let part = token.split('.').nth(1).unwrap();
        let decoded = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(part).unwrap();
        serde_json::from_slice(&decoded).unwrap()
    };
    let named = format!("\"{}\"", claims["cnf"]["jkt"].as_str().unwrap());
    for signing in [signing.clone(), signing.param("keyid", Some(&named))] {
        let mut request = chat("fast");
        request.headers_mut().insert("authorization", HeaderValue::try_from(&authorization).unwrap());
        for (name, value) in signing.sign() {
            let name = http::HeaderName::try_from(name).unwrap();
            request.headers_mut().insert(name, HeaderValue::try_from(value).unwrap());
        }
        assert_eq!(status(&client, request).await, 401);
    }
    let proof = thief.proof("POST", &url, now).token(&token).sign();
    let mut request = chat("fast");
    request.headers_mut().insert("authorization", HeaderValue::try_from(format!("DPoP {token}")).unwrap());
    request.headers_mut().insert("dpop", HeaderValue::try_from(proof).unwrap());
    assert_eq!(status(&client, request).await, 401);
    assert_eq!(world.upstream.count(), 0);
}

#[tokio::test]
async fn a_request_counts_once_and_as_it_was_signed() {
    let world = World::new().await;
    let client = world.signing().await;
    let request = chat("fast");
    let fields = signed(&client, &request).await;
    assert_eq!(status(&client, with(&fields, PATH, request.body())).await, 200);
    assert_eq!(status(&client, with(&fields, PATH, request.body())).await, 401, "replayed");
    let fields = signed(&client, &request).await;
    let other = chat("vouchgate/echo").into_body();
    assert_eq!(status(&client, with(&fields, PATH, &other)).await, 401, "another body");
    let fields = signed(&client, &request).await;
    assert_eq!(status(&client, with(&fields, &format!("{PATH}?stream=true"), request.body())).await, 401, "a query");
    let fields = signed(&client, &request).await;
    assert_eq!(status(&client, with(&fields, "/v1/completions", request.body())).await, 401, "another path");
    let mut fields = signed(&client, &request).await;
    fields.insert("content-type", HeaderValue::from_static("application/json; charset=utf-8"));
    assert_eq!(status(&client, with(&fields, PATH, request.body())).await, 401, "another type");
    // The digest made to fit, which the signature then does not.
    let mut fields = signed(&client, &request).await;
    let digest = testkit::signature::content_digest(&other);
    fields.insert("content-digest", HeaderValue::try_from(digest).unwrap());
    assert_eq!(status(&client, with(&fields, PATH, &other)).await, 401, "another digest");
    assert_eq!(world.upstream.count(), 1);
}

#[tokio::test]
async fn an_app_that_is_to_sign_is_not_let_in_with_less() {
    let world = World::new().await;
    let options = Options { proof: Proof::Dpop, ..world.options() };
    let client = Client::new(options, Arc::new(world.iphone())).unwrap();
    let answer = client.send(chat("fast")).await.unwrap();
    assert!([401, 403].contains(&answer.status.as_u16()), "{}", answer.status);
    assert_eq!(world.upstream.count(), 0);
}

#[tokio::test]
async fn an_app_with_dpop_proves_each_request_and_no_proof_counts_twice() {
    let world = World::with("", "proof = \"dpop\"").await;
    let options = Options { proof: Proof::Dpop, ..world.options() };
    let client = Client::new(options, Arc::new(world.iphone())).unwrap();
    for _ in 0..3 {
        assert_eq!(client.send(chat("fast")).await.unwrap().status, 200);
    }
    let request = chat("fast");
    let fields = signed(&client, &request).await;
    assert_eq!(status(&client, with(&fields, PATH, request.body())).await, 200);
    assert_eq!(status(&client, with(&fields, PATH, request.body())).await, 401);
    client.refresh().await.unwrap();
    client.leave().await.unwrap();
}

#[tokio::test]
async fn an_installation_that_left_or_was_stopped_has_no_tokens() {
    let world = World::new().await;
    let client = world.signing().await;
    let instance = client.ready().await.unwrap().instance;
    let request = chat("vouchgate/echo");
    let fields = signed(&client, &request).await;
    let later = signed(&client, &request).await;
    assert_eq!(status(&client, with(&fields, PATH, request.body())).await, 200);
    let said = crate::support::command(world.path(), &["device", "revoke", &instance, "--reason", "stolen"], b"");
    drop(said);
    assert_eq!(status(&client, with(&later, PATH, request.body())).await, 401);
    let error = client.refresh().await.unwrap_err();
    world.refused_for(&error, "instance_barred");
    // Another phone leaves by itself, and enrols anew when it is used again.
    let client = world.client(Arc::new(world.iphone()));
    let first = client.ready().await.unwrap().instance;
    client.leave().await.unwrap();
    assert_ne!(client.ready().await.unwrap().instance, first);
    let uri = Uri::from_static("/v1/models");
    let models = Request::get(uri).body(Bytes::new()).unwrap();
    let (status, said) = read(client.send(models).await.unwrap()).await;
    assert_eq!(status, 200);
    assert!(said["data"].as_array().unwrap().iter().any(|model| model["id"] == json!("fast")), "{said}");
}
