//! The clock of the machine jumps.

use std::sync::Arc;
use std::time::Duration;

use base::{Clock, FakeClock, SystemClock, Timestamp};
use testkit::dpop::Holder;
use testkit::mock::Mock;

use super::disk::Faults;
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

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_clock_of_the_real_program_steps_by_an_hour_either_way() {
    let _told = Told::of("The clock steps");
    let Some(faults) = Faults::new() else { return };
    let node = faults.node_with("none of them").await;
    let mut revoked = 0;
    for (round, order) in ["clock 3600", "clock -3600", "clock 600", "clock -600"].into_iter().enumerate() {
        let before = node.mint("app", &["--ttl", "30m"]);
        assert_eq!(node.ask_as(&before).await.status(), 200, "{order}");
        faults.order(order);
        // What was issued before: not yet valid by this clock, valid, or over.
        let answer = node.ask_as(&before).await;
        let status = if order == "clock 600" { 200 } else { 401 };
        assert_eq!(answer.status(), status, "{order}: {}", answer.text());
        let fresh = node.mint("app", &[]);
        for _ in 0..5 {
            let answer = node.ask_as(&fresh).await;
            assert_eq!(answer.status(), 200, "{order}: {}\n{}", answer.text(), node.program().process.output());
        }
        let changed = node.change(&format!("stepped-{round}")).await;
        assert!([200, 201].contains(&changed.status()), "{order}: {}", changed.text());
        // What is revoked by this clock stays so when it is right again.
        let gone = node.mint(&format!("gone-{round}"), &[]);
        let refused = async {
            while node.ask_as(&gone).await.status() != 401 {
                crate::support::command(node.at(), &["token", "revoke", "--subject", &format!("gone-{round}")], b"");
                revoked += 1;
            }
        };
        testkit::patiently("what was issued before this second to be revoked", refused).await;
        faults.order("none");
        assert_eq!(node.ask_as(&gone).await.status(), 401, "{order}");
        assert_eq!(node.ask_as(&before).await.status(), 200, "{order}: it is as before");
        assert!(node.is_well().await, "{order}");
    }
    assert!(revoked >= 4);
    node.all_are_recorded().await;
    node.ends_sound().await;
}
