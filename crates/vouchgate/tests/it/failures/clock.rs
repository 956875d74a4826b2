//! The clock of the machine jumps.

use std::sync::Arc;
use std::time::Duration;

use base::{Clock, FakeClock, SystemClock, Timestamp};
use testkit::dpop::Holder;
use testkit::mock::Mock;

use super::{CHAT, Told, question};
use crate::attacks::chat_answer;
use crate::caller::Caller;
use crate::support::{Gateway, provider, secret_file};
use control::operations::MintToken;

const HOUR: Duration = Duration::from_hours(1);

const CONFIG: &str = r#"
[[client]]
name = "app"
scopes = ["chat"]
token_ttl = "12h"

[[policy]]
name = "all"
who = { issuer = "vouchgate", scope = ["chat"] }
may = { models = ["*"] }

[[budget]]
name = "few"
requests = 20
window = "1d"
"#;

/// Noon, so that an hour either way is the same day.
fn noon() -> Timestamp {
    let day = 86_400;
    Timestamp::from_secs(SystemClock.now().as_secs() / day * day + day / 2)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clock_steps_by_an_hour_either_way() {
    let _told = Told::of("The clock steps");
    let mock = Mock::start_with(|_| chat_answer()).await;
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let key = secret_file(dir.path(), "provider.key", "fake-provider-key");
    let prov = provider("prov", "openai-compatible", &format!("{}/v1", mock.url()), &key);
    for back in [true, false] {
        let clock = FakeClock::at(noon());
        let dir = Arc::new(tempfile::tempdir().unwrap());
        let gate = Gateway::start_at(dir, &format!("{CONFIG}{prov}"), clock.clone(), None).await;
        let token = gate.token("app").await;
        let holder = Holder::new("ES256");
        let mint =
            MintToken { client: "app".to_owned(), subject: None, scope: None, ttl: None, jkt: Some(holder.jkt()) };
        let bound =
            gate.server().operations().token_mint(&mint, "test").await.unwrap().access_token.expose().to_owned();
        let caller = Caller::new(gate.public, holder, bound, Arc::new(clock.clone()));
        let used = caller.proof(&caller.nonce().await).sign();
        assert_eq!(caller.ask(&used).await.status(), 200);
        assert_eq!(gate.post(CHAT, &token, &question()).await.status.as_u16(), 200);
        let before = mock.count();

        let step = |by: Duration, back: bool| {
            clock.set(if back { clock.now().minus(by) } else { clock.now().plus(by) });
        };
        step(HOUR, back);
        let after = gate.post(CHAT, &token, &question()).await;
        if back {
            // A token from the future: nobody vouches for when it ends.
            assert_eq!(after.status.as_u16(), 401, "{}", after.text());
            let fresh = gate.token("app").await;
            assert_eq!(gate.post(CHAT, &fresh, &question()).await.status.as_u16(), 200);
        } else {
            assert_eq!(after.status.as_u16(), 200, "{}", after.text());
        }
        // A proof that was used is not good again, whatever the clock says.
        assert_eq!(caller.ask(&used).await.status(), 401);
        step(HOUR, !back);
        assert_eq!(caller.ask(&used).await.status(), 401);
        assert_eq!(gate.post(CHAT, &token, &question()).await.status.as_u16(), 200, "it is as before");
        caller.fine("after the clock was set right").await;
        assert!(mock.count() > before);

        // Never more than the budget of the day, however the clock goes up and down in it.
        let mut let_in = 0;
        for n in 0..60 {
            step(HOUR, n % 2 == 0);
            let fresh = gate.token("app").await;
            let answer = gate.post(CHAT, &fresh, &question()).await;
            match answer.status.as_u16() {
                200 => let_in += 1,
                429 => {}
                other => panic!("{other}: {}", answer.text()),
            }
        }
        assert!((1..=18).contains(&let_in), "{let_in} besides those before, of twenty");
        gate.stop().await;
    }
}
