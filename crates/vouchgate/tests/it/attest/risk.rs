//! Risk rules, as an operator brings them in: looked at, tried over what was, enforced, and one phone let in all the same.

use std::sync::Arc;

use serde_json::{Value, json};
use vouchgate_client::simulator::Iphone;

use super::{World, chat};
use crate::support::{command, run};

const OBSERVED: &str = "[[risk]]\nname = \"mobile\"\napps = [\"chat\"]\nmode = \"observe\"\n\
                        rules = [{ when = { any = [\"frida\", \"debugger\"] }, do = \"deny\" }]\n";

/// A phone whose app found this about itself.
fn hooked(world: &World, flag: &str) -> Iphone {
    let mut phone = world.iphone();
    phone.reported = vec![flag.to_owned()];
    phone
}

fn asked(world: &World, args: &[&str]) -> Value {
    serde_json::from_str(&command(world.path(), &[args, &["--json"]].concat(), b"")).unwrap()
}

/// Write the configuration anew and have it read.
async fn reload(world: &mut World, from: &str, to: &str, generation: u64) {
    let file = world.path().join("vouchgate.toml");
    let text = std::fs::read_to_string(&file).unwrap();
    assert!(text.contains(from), "{text}");
    std::fs::write(&file, text.replace(from, to)).unwrap();
    world.program.process.signal("HUP");
    world.program.process.line(&format!("generation={generation}")).await;
}

#[tokio::test]
async fn rules_are_looked_at_tried_and_enforced_and_one_phone_is_let_in_all_the_same() {
    let mut world = World::with("", OBSERVED).await;
    let client = world.client(Arc::new(hooked(&world, "frida")));
    client.ready().await.expect("what is observed lets in");
    world.client(Arc::new(world.iphone())).ready().await.unwrap();
    // A gateway that has just started says when it takes signatures; the client waits.
    assert_eq!(client.send(chat("vouchgate/echo")).await.unwrap().status, 200);

    let decided = asked(&world, &["risk", "decisions", "--app", "chat"]);
    let rows = decided.as_array().unwrap();
    let of = |action: &str, would: &str| {
        let these = rows.iter().filter(|row| row["action"] == action && row["would"] == would);
        these.map(|row| row["count"].as_u64().unwrap()).sum::<u64>()
    };
    assert!(of("allow", "deny") >= 1 && of("allow", "allow") >= 1, "{decided}");
    let denied = rows.iter().find(|row| row["would"] == "deny").unwrap();
    assert!(denied["known"]["flags"].to_string().contains("frida"), "{denied}");

    // What would have been: by the rules as they are, and by others that nobody has put in force.
    let simulated = asked(&world, &["risk", "simulate", "--since", "1d"]);
    assert!(simulated["after"]["deny"].as_u64() >= Some(1), "every set counts as enforced: {simulated}");
    let other = "[[risk]]\nname = \"mobile\"\nrules = [{ when = { flag = \"emulator\" }, do = \"deny\" }]\n";
    std::fs::write(world.path().join("other.toml"), other).unwrap();
    let harmless = asked(&world, &["risk", "simulate", "--rules", "other.toml"]);
    assert!(harmless["after"].get("deny").is_none(), "{harmless}");
    let (exit, _, said) =
        run(&["risk", "simulate", "--rules", "nowhere.toml", "--config", "vouchgate.toml"], world.path(), b"");
    assert!(exit != 0 && said.contains("nowhere.toml"), "{said}");
    client.refresh().await.expect("asking changes nothing");

    reload(&mut world, "mode = \"observe\"", "mode = \"enforce\"", 2).await;
    let error = client.refresh().await.unwrap_err();
    world.refused_for(&error, "frida");
    let newcomer = world.client(Arc::new(hooked(&world, "debugger"))).ready().await.unwrap_err();
    world.refused_for(&newcomer, "debugger");
    world.client(Arc::new(world.iphone())).ready().await.expect("an honest phone is none the worse for it");

    // The operator finds whom to let in by the code that the phone was told.
    let arc = asked(&world, &["arc", "show", error.arc().unwrap()]);
    let jkt = arc["detail"]["jkt"].as_str().unwrap_or_else(|| panic!("{arc}")).to_owned();
    let forced = ["risk", "force", "chat", &jkt, "--for", "1h", "--reason", "a phone of QA"];
    let pass = asked(&world, &forced);
    // A client that was refused waits a second before it asks again.
    let again = async {
        loop {
            match client.refresh().await {
                Err(vouchgate_client::Error::BackingOff { .. }) => tokio::task::yield_now().await,
                other => break other,
            }
        }
    };
    testkit::patiently("the client to ask again", again).await.expect("let in by its pass");
    let newcomer = world.client(Arc::new(hooked(&world, "debugger"))).ready().await.unwrap_err();
    world.refused_for(&newcomer, "debugger");
    let passes = asked(&world, &["risk", "passes"]);
    assert_eq!((&passes[0]["jkt"], &passes[0]["in_force"]), (&json!(jkt), &json!(true)));
    assert!(passes[0]["uses"].as_u64() >= Some(1), "{passes}");
    asked(&world, &["risk", "end", pass["id"].as_str().unwrap()]);
    world.refused_for(&client.refresh().await.unwrap_err(), "frida");
    let too_long = ["risk", "force", "chat", &jkt, "--for", "31d", "--reason", "x", "--config", "vouchgate.toml"];
    assert_ne!(run(&too_long, world.path(), b"").0, 0, "a pass is no way around the rules for good");
}

#[tokio::test]
async fn a_policy_tells_phones_apart_by_words_of_the_rules_and_the_token_brings_its_limits() {
    let rules = "[[risk]]\nname = \"words\"\nrules = [\n\
                 { when = { flag = \"vpn\" }, do = \"annotate\", as = \"vpn\" },\n\
                 { when = { flag = \"screen_mirror\" }, do = \"throttle\", to = { rpm = 2 } }]\n\
                 [[policy]]\nname = \"not-behind-a-vpn\"\nwho = { issuer = \"vouchgate\", client = \"chat\", not_annotated = \"vpn\" }\n\
                 may = { models = [\"vouchgate/echo\"] }\n";
    let mut world = World::with("", rules).await;
    // The other policy of this world lets everybody in.
    reload(&mut world, "client = \"chat\", scope = [\"chat\"]", "client = \"nobody\", scope = [\"chat\"]", 2).await;
    let plain = world.client(Arc::new(world.iphone()));
    assert_eq!(plain.send(chat("vouchgate/echo")).await.unwrap().status, 200);
    let hidden = world.client(Arc::new(hooked(&world, "vpn")));
    assert_eq!(hidden.send(chat("vouchgate/echo")).await.unwrap().status, 403);
    let mirrored = world.client(Arc::new(hooked(&world, "screen_mirror")));
    let mut statuses = Vec::new();
    for _ in 0..4 {
        statuses.push(mirrored.send(chat("vouchgate/echo")).await.unwrap().status.as_u16());
    }
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 2, "{statuses:?}");
    assert!(statuses.contains(&429), "{statuses:?}");
}
