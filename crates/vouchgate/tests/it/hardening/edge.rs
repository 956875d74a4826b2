//! Connections: slow ones, too many, encrypted ones; and what is refused at the start.

use std::sync::Arc;
use std::time::Duration;

use serde_json::json;
use testkit::certs::Authority;
use testkit::mock::{Answer as Reply, Gate, Mock, Outcome};
use testkit::patiently;
use testkit::raw::{self, Connection};

use super::{World, configuration, question, stream_of};
use crate::support::{Gateway, Program, run, secret_file, write_config};

#[tokio::test]
async fn check_04_slow_heads_are_closed_and_keep_nobody_waiting() {
    let world = World::start("header_timeout = \"1s\"\nconnections_per_address = 2000").await;
    let mut slow = Vec::new();
    for _ in 0..500 {
        let mut connection = Connection::open(world.gateway.public).await;
        connection.send(b"GET /v1/models HTTP/1.1\r\nX: ").await;
        slow.push(connection);
    }
    for _ in 0..20 {
        world.fine().await;
    }
    for mut connection in slow {
        connection.to_close().await;
    }
    world.fine().await;
}

#[tokio::test]
async fn check_05_a_body_that_stops_is_408_and_the_provider_is_not_asked() {
    let world = World::start("body_idle = \"1s\"").await;
    for path in ["/v1/chat/completions", "/v1/summary", "/maps/x"] {
        for body in ["Content-Length: 100\r\n\r\n{\"model\"", "Transfer-Encoding: chunked\r\n\r\n3\r\n{\"m\r\n"] {
            let mut connection = Connection::open(world.gateway.public).await;
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: localhost\r\n{}Content-Type: application/json\r\n",
                world.bearer()
            );
            connection.send(format!("{head}{body}").as_bytes()).await;
            assert_eq!(connection.response().await.status(), 408, "{path}");
        }
    }
    assert_eq!(world.mock.count(), 0);
}

#[tokio::test]
async fn check_05_a_reader_that_takes_nothing_holds_the_provider_back_and_is_cut() {
    let world = World::start("write_idle = \"1s\"").await;
    let event = format!("data: {}\n\n", stream_of(&"x".repeat(16 << 10)));
    world.mock.push(Reply::sse(event).repeat(u64::MAX));
    let mut body = question();
    body["stream"] = json!(true);
    let mut connection = Connection::open(world.gateway.public).await;
    let text = body.to_string();
    let head = format!(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n{}Content-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        world.bearer(),
        text.len()
    );
    connection.send(format!("{head}{text}").as_bytes()).await;
    let sent = world.mock.request(0).await;
    assert_eq!(sent.settled().await, Outcome::Dropped, "an endless stream to nobody is ended");
    // What was on the way were the kernel's buffers and a little of ours.
    let read = connection.to_close().await.len();
    assert!(read < 32 << 20, "{read} bytes");
    world.fine().await;
}

#[tokio::test]
async fn check_07_too_many_connections_are_turned_away_and_admin_stays_open() {
    let world = World::start("connections_per_address = 20").await;
    let mut open = Vec::new();
    for _ in 0..60 {
        open.push(Connection::open(world.gateway.public).await);
    }
    let (mut served, mut turned) = (0, 0);
    for connection in &mut open {
        connection.request("GET", "/livez", &[], b"").await;
        match connection.try_response().await {
            Some(response) if response.status() == 200 => served += 1,
            Some(response) => {
                assert_eq!(response.status(), 503);
                turned += 1;
            }
            None => turned += 1,
        }
    }
    assert!((15..=20).contains(&served) && served + turned == 60, "{served} served, {turned} turned away");
    assert_eq!(raw::request(world.gateway.admin, "GET", "/livez", &[], b"").await.status(), 200, "the admin listener");
    drop(open);
    for attempt in 0.. {
        let mut connection = Connection::open(world.gateway.public).await;
        connection.request("GET", "/livez", &[], b"").await;
        if connection.try_response().await.is_some_and(|response| response.status() == 200) {
            break;
        }
        assert!(attempt < 10_000, "those who left are not forgotten");
    }
}

#[tokio::test]
async fn check_11_each_wait_for_a_provider_ends_in_a_typed_error() {
    let world = World::start("first_byte = \"1s\"\nidle = \"1s\"").await;
    let never = Gate::closed();
    world.mock.push(crate::attacks::chat_answer().hold_head(&never));
    let answer = world.chat(&question()).await;
    assert_eq!(answer.status, 504, "{}", answer.text());
    assert!(answer.code().contains("timeout"), "{}", answer.text());
    let first = format!("data: {}\n\n", stream_of("first"));
    world.mock.push(Reply::openai_stream(&[stream_of("first"), stream_of("second")]).stall_after(first.len(), &never));
    let mut body = question();
    body["stream"] = json!(true);
    let answer = world.chat(&body).await;
    let text = answer.text();
    assert!(text.contains("first") && text.contains("\"error\"") && !text.contains("[DONE]"), "{text}");
    world.mock.push(Reply::json(200, &json!({"x": "y".repeat(100)})).stall_after(20, &never));
    assert!([502, 504].contains(&world.chat(&question()).await.status.as_u16()));
    for index in 0..3 {
        assert_eq!(world.mock.request(index).await.settled().await, Outcome::Dropped);
    }
}

#[tokio::test]
async fn check_16_certificates_change_without_a_failed_handshake() {
    let mock = Mock::start_with(|_| crate::attacks::chat_answer()).await;
    let (first, second) = (Authority::new(), Authority::new());
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let put = |authority: &Authority| {
        let identity = authority.server(&["localhost"]);
        std::fs::write(dir.path().join("cert.pem"), &identity.cert_pem).unwrap();
        secret_file(dir.path(), "tls.key", &identity.key_pem);
    };
    put(&first);
    write_config(dir.path(), "tls = { cert = \"cert.pem\", key = \"tls.key\" }", &configuration(dir.path(), &mock));
    let mut program = Program::serve(dir.path(), &[]).await;
    let get = async |config: Arc<rustls::ClientConfig>| {
        let mut connection = Connection::open_tls(program.public, "localhost", config).await?;
        connection.request("GET", "/livez", &[], b"").await;
        Ok::<_, std::io::Error>(connection.response().await)
    };
    let (old, new) = (first.client_config(None, &[]), second.client_config(None, &[]));
    let answer = get(Arc::clone(&old)).await.unwrap();
    assert_eq!(answer.status(), 200);
    assert!(get(Arc::clone(&new)).await.is_err(), "not signed by the second authority yet");
    // While the files change, every handshake succeeds with the old or the new certificate.
    put(&second);
    program.process.signal("HUP");
    let mut changed = false;
    for _ in 0..200 {
        let (by_old, by_new) = (get(Arc::clone(&old)).await.is_ok(), get(Arc::clone(&new)).await.is_ok());
        assert!(by_old || by_new, "a failed handshake");
        changed |= by_new && !by_old;
        if changed {
            break;
        }
    }
    assert!(changed, "the new certificate is served");
    // A certificate that cannot be used leaves the one there is.
    std::fs::write(dir.path().join("cert.pem"), "no certificate").unwrap();
    program.process.signal("HUP");
    program.process.line("not reloaded").await;
    assert_eq!(get(Arc::clone(&new)).await.unwrap().status(), 200);
    // Without TLS nothing is answered, and old versions of it are not spoken.
    let plain = raw::exchange(program.public, b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(!plain.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&plain));
    let tls10 = b"\x16\x03\x01\x00\x31\x01\x00\x00\x2d\x03\x01aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\x00\x00\x06\x00\x2f\x00\x35\x00\x0a\x01\x00";
    let refused = raw::exchange(program.public, tls10).await;
    assert!(refused.is_empty() || refused[0] == 0x15, "an alert at most");
    program.process.signal("TERM");
    patiently("the end", program.process.ended()).await;
}

#[tokio::test]
async fn check_16_plain_http_off_loopback_is_refused_unless_said() {
    let dir = tempfile::tempdir().unwrap();
    for (key, value) in [("listen", "0.0.0.0:0"), ("admin_listen", "0.0.0.0:0"), ("listen", "[::]:0")] {
        let other = if key == "listen" { "admin_listen" } else { "listen" };
        let text = format!("[server]\n{key} = \"{value}\"\n{other} = \"127.0.0.1:0\"\ndata_dir = \"data\"\n");
        std::fs::write(dir.path().join("vouchgate.toml"), &text).unwrap();
        for command in ["check", "serve"] {
            let (exit, out, said) = run(&[command, "--config", "vouchgate.toml"], dir.path(), b"");
            assert_eq!(exit, 1, "{command} {key} = {value}: {out}{said}");
            assert!(format!("{out}{said}").contains("vouchgate.toml:2:"), "{out}{said}");
        }
        std::fs::write(dir.path().join("vouchgate.toml"), format!("{text}plain_http = true\n")).unwrap();
        assert_eq!(run(&["check", "--config", "vouchgate.toml"], dir.path(), b"").0, 0);
    }
}

#[tokio::test]
async fn check_22_a_bad_file_is_refused_with_its_places_and_a_bad_reload_changes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    for (text, places) in [
        ("[server]\nlisten = 5\n", &[":2:"][..]),
        (
            "[server]\nlissten = \"127.0.0.1:0\"\n\n[[policy]]\nname = \"x\"\nmay = { modles = [\"*\"] }\n",
            &[":2:", ":6:"],
        ),
        ("[[client]]\nname = \"a\"\n\n[[client]]\nname = \"a\"\n", &[":5:"]),
        ("[server\n", &[":1:"]),
        ("[[policy]]\nname = \"x\"\nmay = { services = [\"absent\"] }\n", &[":3:"]),
        ("[[provider]]\nname = \"x\"\nkind = \"openai\"\napi_key = { env = \"VOUCHGATE_TEST_UNSET\" }\n", &[":4:"]),
    ] {
        std::fs::write(dir.path().join("vouchgate.toml"), text).unwrap();
        let mut said = Vec::new();
        for command in ["check", "serve"] {
            let (exit, out, err) = run(&[command, "--config", "vouchgate.toml"], dir.path(), b"");
            assert_eq!(exit, 1, "{command}: {out}{err}");
            for place in places {
                assert!(
                    format!("{out}{err}").contains(&format!("vouchgate.toml{place}")),
                    "{command} {place}: {out}{err}"
                );
            }
            let both = format!("{out}{err}");
            let lines: Vec<String> =
                both.lines().filter(|line| line.starts_with("vouchgate.toml:")).map(str::to_owned).collect();
            said.push(lines);
        }
        assert_eq!(said[0], said[1], "check gives the verdict of serve");
    }
    // A running server keeps what it has, and says what is wrong.
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let mock = Mock::start_with(|_| crate::attacks::chat_answer()).await;
    let file = dir.path().join("vouchgate.toml");
    let clock = base::FakeClock::at(base::Clock::now(&base::SystemClock));
    let config = configuration(dir.path(), &mock);
    let gateway = Gateway::start_at(Arc::clone(&dir), &config, clock, Some(file.clone())).await;
    let token = gateway.token("app").await;
    let good = std::fs::read_to_string(&file).unwrap();
    for bad in [
        good.replace("[[policy]]", "[[polizy]]"),
        good.replace("url = \"http", "url = \"ftp"),
        String::from("["),
        good.replace("name = \"maps\"", "name = \"\""),
    ] {
        std::fs::write(&file, bad).unwrap();
        let faults = gateway.server().reload().await.unwrap_err();
        assert!(faults.iter().all(|fault| fault.line > 0 && fault.column > 0), "{faults:?}");
        assert_eq!(gateway.post("/v1/chat/completions", &token, &question()).await.status, 200);
    }
    std::fs::remove_file(&file).unwrap();
    gateway.server().reload().await.unwrap_err();
    assert_eq!(gateway.post("/v1/chat/completions", &token, &question()).await.status, 200);
    tokio::time::timeout(Duration::from_secs(20), gateway.stop()).await.unwrap();
}
