//! Revocations, signing keys, and clients with more than a secret.

use serde_json::json;

use super::{Done, installed, vouchgate, vouchgate_with, words};

/// A command on the installation of this configuration.
async fn on(config: &str, arguments: &[&str]) -> Done {
    vouchgate(&[arguments, &["--config", config]].concat()).await
}

#[tokio::test]
async fn each_kind_of_revocation_is_made_listed_and_lifted() {
    let (_dir, config) = installed();
    for (n, (arguments, said)) in [
        (&["--subject", "alice", "--issuer", "corp"] as &[&str], "the tokens of the subject alice of corp"),
        (&["--client", "batch"], "the tokens of the client batch of vouchgate"),
        (&["--device", "d", "--issuer", "corp"], "the tokens of the device d of corp"),
        (&["--session", "s"], "the tokens of the session s of vouchgate"),
        (&["--all", "--issuer", "corp"], "all tokens of corp"),
        (&["--all", "--before", "2h", "--reason", "drill"], "all tokens"),
        (&["--jti", "j", "--issuer", "corp"], "the token j of corp"),
        (&["--kid", "k", "--issuer", "corp"], "what the key k of corp signs"),
    ]
    .into_iter()
    .enumerate()
    {
        let done = on(&config, &[&["token", "revoke"], arguments].concat()).await;
        assert_eq!((done.exit, done.out.as_str()), (0, ""), "{done:?}");
        assert!(done.err.contains(&format!("Revoked {said} (revocation {})", n + 1)), "{done:?}");
    }
    let listed = on(&config, &["token", "revocations"]).await;
    let lines: Vec<Vec<&str>> = listed.out.lines().map(words).collect();
    assert_eq!(lines[1][..5], ["8", "key", "corp", "k", "in"], "newest first");
    assert_eq!(lines[3][..4], ["6", "everything", "2027-01-15", "06:00"]);
    assert!(lines[3].ends_with(&["local", "drill"]), "{listed:?}");
    assert_eq!(on(&config, &["token", "revocations", "--json"]).await.json().as_array().unwrap().len(), 8);

    let done = on(&config, &["token", "lift", "6"]).await;
    assert!(done.exit == 0 && done.err.contains("Lifted revocation 6 (all tokens)"), "{done:?}");
    for id in ["6", "7", "99"] {
        let refused = on(&config, &["token", "lift", id]).await;
        assert!(refused.exit == 1 && refused.err.contains("no revocation that can be lifted"), "{refused:?}");
    }
}

#[tokio::test]
async fn an_id_may_begin_with_a_hyphen_as_one_in_64_does() {
    let (_dir, config) = installed();
    for (arguments, said) in [
        (&["token", "revoke", "--kid", "-k", "--issuer", "corp"] as &[&str], "what the key -k of corp signs"),
        (&["token", "revoke", "--jti", "-j"], "the token -j of vouchgate"),
        (&["token", "revoke", "--session", "--s"], "the tokens of the session --s of vouchgate"),
        (&["key", "rotate", "--compromised", "-k"], "-k"),
    ] {
        let done = on(&config, arguments).await;
        assert!([0, 1].contains(&done.exit) && done.err.contains(said), "{done:?}");
    }
}

#[tokio::test]
async fn a_token_comes_on_standard_input_and_is_not_shown_again() {
    let (_dir, config) = installed();
    let token = on(&config, &["token", "mint", "--client", "filed"]).await.out;
    let arguments = ["token", "revoke", "--token-stdin", "--config", &config];
    let done = vouchgate_with(&arguments, &token).await;
    assert_eq!(done.exit, 0, "{done:?}");
    assert!(done.err.contains("Revoked the token ") && !done.err.contains(token.trim()), "{done:?}");
    let listed = on(&config, &["token", "revocations", "--json"]).await;
    assert_eq!(listed.json()[0]["kind"], "token");
    assert!(!listed.out.contains(token.trim()));
    let none = vouchgate_with(&arguments, "not a token").await;
    assert_eq!(none.exit, 1, "{none:?}");
}

#[tokio::test]
async fn what_cannot_be_meant_is_wrong_usage_or_refused() {
    let (_dir, config) = installed();
    for wrong in [
        &[] as &[&str],
        &["--subject", "a", "--client", "b"],
        &["--kid", "k"],
        &["--jti", "j", "--before", "1h"],
        &["--token-stdin", "--issuer", "corp"],
    ] {
        assert_eq!(on(&config, &[&["token", "revoke"], wrong].concat()).await.exit, 2, "{wrong:?}");
    }
    for refused in [&["--subject", "a", "--issuer", "nobody"] as &[&str], &["--subject", "a", "--before", "soon"]] {
        let done = on(&config, &[&["token", "revoke"], refused].concat()).await;
        assert_eq!(done.exit, 1, "{done:?}");
    }
    assert_eq!(on(&config, &["token", "revocations"]).await.err, "Nothing is revoked.\n");
    assert_eq!(on(&config, &["key", "rotate", "--reason", "x"]).await.exit, 2);
    assert_eq!(on(&config, &["key", "rotate", "--now", "--compromised", "k"]).await.exit, 2);
}

#[tokio::test]
async fn keys_are_rotated_later_at_once_and_when_compromised() {
    let (_dir, config) = installed();
    let first = on(&config, &["key", "list", "--json"]).await.json()[0]["kid"].as_str().unwrap().to_owned();
    let later = on(&config, &["key", "rotate"]).await;
    assert!(later.exit == 0 && later.err.contains("is published, and signs from 2027-01-16T08:00:00"), "{later:?}");
    assert!(later.out.lines().any(|line| words(line).contains(&"next")), "{later:?}");
    let now = on(&config, &["key", "rotate", "--now"]).await;
    assert!(now.err.contains("signs from now on"), "{now:?}");
    assert!(now.out.lines().any(|line| words(line)[..3] == [first.as_str(), "ES256", "retiring"]), "{now:?}");

    let ended = on(&config, &["key", "rotate", "--compromised", &first, "--reason", "leaked"]).await;
    assert!(ended.err.contains(&format!("The key {first} and all it signed are refused")), "{ended:?}");
    let again = on(&config, &["key", "rotate", "--compromised", &first]).await;
    assert_eq!(again.exit, 1, "{again:?}");
    let revoked = on(&config, &["token", "revocations", "--json"]).await.json();
    assert_eq!((&revoked[0]["kind"], &revoked[0]["value"]), (&json!("key"), &json!(first)));
}

#[tokio::test]
async fn a_token_is_minted_for_a_key() {
    let (_dir, config) = installed();
    let jkt = "0ZcOCORZNYy-DWpqq30jZyJGHTN0d2HglBV3uiguA4I";
    let bound = on(&config, &["token", "mint", "--client", "filed", "--jkt", jkt, "--json"]).await.json();
    assert_eq!(bound["token_type"], "DPoP");
    assert_eq!(on(&config, &["token", "mint", "--client", "filed", "--jkt", "short"]).await.exit, 1);
}

#[tokio::test]
async fn a_client_is_made_with_what_it_proves_itself_with() {
    let (dir, config) = installed();
    let file = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let key = proof::jose::SigningKey::generate(proof::jose::SigningAlg::Es256).unwrap();
    let (one, set) = (
        file("key.json", &key.public_jwk().to_string()),
        file("set.json", &json!({ "keys": [key.public_jwk()] }).to_string()),
    );
    for (name, more, said) in [
        ("a", &["--jwks", &one, "--alg", "ES256"] as &[&str], "proves who it is by private_key_jwt"),
        ("b", &["--jwks", &set, "--require", "dpop", "--introspect"], "proves who it is by private_key_jwt"),
        ("c", &["--jwks-url", "https://app.example.com/jwks"], "proves who it is by private_key_jwt"),
        ("d", &["--public", "--require", "dpop"], "Made the public client d"),
    ] {
        let made = on(&config, &[&["client", "create", name], more].concat()).await;
        assert_eq!((made.exit, made.out.as_str()), (0, ""), "{made:?}");
        assert!(made.err.contains(said), "{made:?}");
    }
    let shown = on(&config, &["client", "show", "b", "--json"]).await.json();
    assert_eq!((&shown["require"], &shown["introspect"]), (&json!(["dpop"]), &json!(true)));
    assert_eq!(shown["auth"]["jwks"]["keys"].as_array().unwrap().len(), 1);
    let rotated = on(&config, &["client", "rotate", "a"]).await;
    assert!(rotated.exit == 1 && rotated.err.contains("has no secret"), "{rotated:?}");

    for wrong in [&["--jwks", &one, "--public"] as &[&str], &["--grant", "password"], &["--allow-private"]] {
        assert_eq!(on(&config, &[&["client", "create", "x"], wrong].concat()).await.exit, 2, "{wrong:?}");
    }
    let missing = dir.path().join("none.json").display().to_string();
    for (unusable, exit) in [
        (&["--alg", "ES256"] as &[&str], 2),
        (&["--jwks", &missing], 2),
        (&["--public"], 1),
        (&["--certificate", &one], 1),
        (&["--subject-dn", "CN=x"], 1),
        (&["--grant", "authorization-code"], 1),
    ] {
        let done = on(&config, &[&["client", "create", "x"], unusable].concat()).await;
        assert_eq!(done.exit, exit, "{unusable:?} {done:?}");
    }
}
