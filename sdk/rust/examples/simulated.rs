//! An iPhone made of software talks to a gateway.
//!
//! `cargo run -p vouchgate-client --features simulator --example simulated -- URL APP ROOT_KEY.pem APP_ID`, where the
//! gateway trusts the root whose key is in `ROOT_KEY.pem` (`test_roots` of the app), and `APP_ID` is `TEAMID.bundle.id`.

use std::error::Error;
use std::sync::Arc;

use bytes::Bytes;
use http::Request;
use vouchgate_client::clock::SystemClock;
use vouchgate_client::simulator::{Apple, Iphone};
use vouchgate_client::{Client, Options};

#[tokio::main]
#[allow(clippy::print_stdout)]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [gateway, app, root, app_id] = arguments.as_slice() else { return Err("URL APP ROOT_KEY.pem APP_ID".into()) };
    let apple = Apple::from_pem(&std::fs::read_to_string(root)?, Arc::new(SystemClock))?;
    let client = Client::new(Options::new(gateway, app), Arc::new(Iphone::new(&apple, app_id)))?;
    let installation = client.ready().await?;
    println!("installation {} (code {})", installation.instance, installation.arc);
    let body = r#"{"model":"vouchgate/echo","messages":[{"role":"user","content":"Hello"}]}"#;
    let request = Request::post("/v1/chat/completions").header("content-type", "application/json");
    let answer = client.send(request.body(Bytes::from(body))?).await?;
    println!("{}", answer.status);
    println!("{}", String::from_utf8_lossy(&answer.bytes(1 << 20).await?));
    Ok(())
}
