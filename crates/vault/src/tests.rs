use std::os::unix::fs::PermissionsExt;

use base::{SeededRng, SystemRng, Tenant};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;

fn master(seed: u64) -> MasterKey {
    MasterKey::generate(&SeededRng::new(seed)).unwrap()
}

fn vault(seed: u64) -> Vault {
    Vault::new(master(seed), Arc::new(SeededRng::new(seed ^ 0xff))).unwrap()
}

fn tenant(name: &str) -> Tenant {
    Tenant::new(base::Name::new(name).unwrap())
}

const KEY: &[u8] = b"sk-fake-0123456789";

#[test]
fn a_data_key_opens_the_value_it_is_of_again_and_again_and_no_other() {
    let (vault, ours) = (vault(1), tenant("ours"));
    let label = Label::new(&ours, Purpose::Secret, "openai", 2);
    let (sealed, other) = (vault.seal(&label, KEY).unwrap(), vault.seal(&label, KEY).unwrap());
    let data_key = vault.data_key(&label, &sealed).unwrap();
    for _ in 0..2 {
        assert!(data_key.open(&sealed).unwrap().matches(KEY));
    }
    assert_eq!(data_key.open(&other).err(), Some(VaultError::Altered));
    assert_eq!(vault.data_key(&Label { version: 1, ..label }, &sealed).err(), Some(VaultError::Altered));
}

#[test]
fn what_is_sealed_opens_under_the_same_label_only() {
    let (vault, ours, theirs) = (vault(1), tenant("ours"), tenant("theirs"));
    let label = Label::new(&ours, Purpose::Secret, "openai", 2).origin(Some("https://api.openai.com"));
    let sealed = vault.seal(&label, KEY).unwrap();
    assert!(vault.open(&label, &sealed).unwrap().matches(KEY));

    let others = [
        Label { tenant: &theirs, ..label },
        Label { purpose: Purpose::SigningKey, ..label },
        Label { purpose: Purpose::Answer, ..label },
        Label { purpose: Purpose::Successor, ..label },
        Label { purpose: Purpose::Grant, ..label },
        Label { name: "openai2", ..label },
        Label { name: "", ..label },
        Label { version: 1, ..label },
        Label { version: 3, ..label },
        Label { origin: None, ..label },
        Label { origin: Some(""), ..label },
        Label { origin: Some("https://api.openai.com:444"), ..label },
    ];
    for other in others {
        assert_eq!(vault.open(&other, &sealed).err(), Some(VaultError::Altered), "{other:?}");
    }
}

#[test]
fn a_field_cannot_lend_characters_to_its_neighbour() {
    let (vault, a, ab) = (vault(1), tenant("a"), tenant("ab"));
    let sealed = vault.seal(&Label::new(&a, Purpose::Secret, "bc", 1), KEY).unwrap();
    assert!(vault.open(&Label::new(&ab, Purpose::Secret, "c", 1), &sealed).is_err());
    let named = Label::new(&a, Purpose::Secret, "n", 1);
    let sealed = vault.seal(&named.origin(Some("any")), KEY).unwrap();
    assert!(vault.open(&named, &sealed).is_err());
}

#[test]
fn another_master_key_is_named_as_the_reason_and_never_yields_garbage() {
    let tenant = Tenant::default();
    let label = Label::new(&tenant, Purpose::Secret, "openai", 1);
    let sealed = vault(1).seal(&label, KEY).unwrap();
    let error = vault(2).open(&label, &sealed).err();
    assert_eq!(error, Some(VaultError::WrongKey(master(1).id())));
    assert!(error.unwrap().to_string().contains(&master(1).id().to_string()));

    // A header that claims the other key does not help either.
    let mut forged = sealed.as_bytes().to_vec();
    forged[1..9].copy_from_slice(master(2).id().as_bytes());
    assert_eq!(vault(2).open(&label, &Sealed::from_bytes(forged).unwrap()).err(), Some(VaultError::Altered));
}

#[test]
fn every_flipped_bit_is_noticed() {
    let (vault, tenant) = (vault(1), Tenant::default());
    let label = Label::new(&tenant, Purpose::SigningKey, "kid", 1);
    let sealed = vault.seal(&label, KEY).unwrap();
    for index in 0..sealed.as_bytes().len() {
        for bit in 0..8 {
            let mut bytes = sealed.as_bytes().to_vec();
            bytes[index] ^= 1 << bit;
            let opened = Sealed::from_bytes(bytes).and_then(|sealed| vault.open(&label, &sealed));
            assert!(opened.is_err(), "byte {index} bit {bit}");
        }
    }
}

#[test]
fn halves_of_two_sealed_values_do_not_combine() {
    let (vault, tenant) = (vault(1), Tenant::default());
    let label = Label::new(&tenant, Purpose::Secret, "openai", 1);
    let (one, two) = (vault.seal(&label, KEY).unwrap(), vault.seal(&label, KEY).unwrap());
    assert_ne!(one, two, "the same value seals differently each time");
    let body = 1 + 8 + 12 + 48;
    let mixed = [&one.as_bytes()[..body], &two.as_bytes()[body..]].concat();
    assert_eq!(vault.open(&label, &Sealed::from_bytes(mixed).unwrap()).err(), Some(VaultError::Altered));
}

#[test]
fn a_new_master_key_seals_and_the_old_one_still_opens() {
    let tenant = Tenant::default();
    let label = Label::new(&tenant, Purpose::Secret, "openai", 1);
    let old = vault(1);
    let sealed = old.seal(&label, KEY).unwrap();
    let ring = Vault::with_older(master(2), vec![master(1)], Arc::new(SystemRng)).unwrap();
    assert!(ring.open(&label, &sealed).unwrap().matches(KEY));
    assert!(ring.holds(master(1).id()) && ring.holds(master(2).id()) && !ring.holds(master(3).id()));

    let resealed = ring.seal(&label, KEY).unwrap();
    assert_eq!(resealed.key_id(), Ok(master(2).id()));
    assert_eq!(old.open(&label, &resealed).err(), Some(VaultError::WrongKey(master(2).id())));

    let stored = old.keyed_hash(HashPurpose::ApiKey, b"vg_fake");
    assert_eq!(ring.keyed_hashes(HashPurpose::ApiKey, b"vg_fake")[1], stored);
    assert!(ring.matches(HashPurpose::ApiKey, b"vg_fake", &stored));
}

#[test]
fn a_vault_adopts_a_new_master_key_while_it_is_used() {
    let tenant = Tenant::default();
    let label = Label::new(&tenant, Purpose::Secret, "openai", 1);
    let vault = vault(1);
    let (sealed, hash) = (vault.seal(&label, KEY).unwrap(), vault.keyed_hash(HashPurpose::ApiKey, b"vg_fake"));
    let (shared, old) = (vault.keyed_hash(HashPurpose::Shared, b"nonces"), vault.key_id());
    vault.adopt(master(2), Vec::new()).unwrap();
    assert_eq!((vault.key_id(), vault.older_ids()), (master(2).id(), vec![old]));
    assert!(vault.open(&label, &sealed).unwrap().matches(KEY), "what was sealed before goes on opening");
    assert_eq!(vault.seal(&label, KEY).unwrap().key_id(), Ok(master(2).id()));
    assert_eq!(vault.keyed_hashes(HashPurpose::ApiKey, b"vg_fake")[1], hash);
    assert_eq!(vault.keyed_hash(HashPurpose::Shared, b"nonces"), shared, "what nodes share stays");
    vault.adopt(master(2), vec![master(1)]).unwrap();
    assert_eq!(vault.older_ids(), [old], "nothing is held twice");
}

#[test]
fn credentials_of_a_master_key_that_is_gone_are_known_by_its_hash_keys_alone() {
    let tenant = Tenant::default();
    let before = vault(1);
    let hash = before.keyed_hash(HashPurpose::ApiKey, b"vg_fake");
    let shared = before.keyed_hash(HashPurpose::Shared, b"nonces");
    let both = Vault::with_older(master(2), vec![master(1)], Arc::new(SystemRng)).unwrap();
    let kept = both.hash_keys(&tenant, master(1).id()).unwrap().unwrap();
    assert_eq!(both.hash_keys(&tenant, master(3).id()).unwrap(), None);
    let after = Vault::new(master(2), Arc::new(SystemRng)).unwrap();
    assert!(!after.matches(HashPurpose::ApiKey, b"vg_fake", &hash));
    after.remember(&tenant, master(1).id(), &kept).unwrap();
    assert!(after.matches(HashPurpose::ApiKey, b"vg_fake", &hash) && !after.holds(master(1).id()));
    assert!(after.keyed_hashes(HashPurpose::ApiKey, b"vg_fake").contains(&hash));
    assert_ne!(after.keyed_hash(HashPurpose::ApiKey, b"vg_fake"), hash, "new ones are hashed with the new key");
    after.agree_on(master(1).id());
    assert_eq!(after.keyed_hash(HashPurpose::Shared, b"nonces"), shared);
    // Neither another's nor anything else passes for them, and they open nothing.
    assert!(after.remember(&tenant, master(3).id(), &kept).is_err());
    let label = Label::new(&tenant, Purpose::Secret, "openai", 1);
    let sealed = before.seal(&label, KEY).unwrap();
    assert_eq!(after.open(&label, &sealed).err(), Some(VaultError::WrongKey(master(1).id())));
}

#[test]
fn what_is_compared_with_later_hashes_stays_the_same_under_every_master_key() {
    let tenant = Tenant::default();
    let first = vault(1);
    let former = first.keyed_hash(HashPurpose::Device, b"a device");
    let kept = first.lasting_key(&tenant).unwrap();
    first.take_lasting(&tenant, &kept).unwrap();
    let lasting = first.keyed_hash(HashPurpose::Device, b"a device");
    assert_eq!(
        first.keyed_hashes(HashPurpose::Device, b"a device"),
        [lasting, former],
        "what was made before is known"
    );
    assert_ne!(lasting, former);
    first.adopt(master(2), Vec::new()).unwrap();
    assert_eq!(first.keyed_hash(HashPurpose::Device, b"a device"), lasting);
    // Sealed anew: the first master key is gone.
    let anew = first.lasting_anew(&tenant, &kept).unwrap();
    let after = Vault::new(master(2), Arc::new(SystemRng)).unwrap();
    assert_eq!(after.take_lasting(&tenant, &kept), Err(VaultError::WrongKey(master(1).id())));
    after.take_lasting(&tenant, &anew).unwrap();
    assert_eq!(after.keyed_hash(HashPurpose::Device, b"a device"), lasting);
    assert!(after.matches(HashPurpose::Device, b"a device", &lasting));
    assert!(!after.matches(HashPurpose::Device, b"a device", &former), "its master key is neither held nor remembered");
    // Credentials have nothing of it, and nobody else's key passes for it.
    assert_eq!(after.keyed_hashes(HashPurpose::ApiKey, b"vg_fake").len(), 1);
    let other = Tenant::new(base::Name::new("other").unwrap());
    assert_eq!(after.take_lasting(&other, &anew), Err(VaultError::Altered));
}

#[test]
fn purposes_stand_in_the_order_they_are_declared_in() {
    assert!(Purpose::ALL.iter().enumerate().all(|(at, purpose)| *purpose as usize == at));
    assert!(HashPurpose::ALL.iter().enumerate().all(|(at, purpose)| *purpose as usize == at));
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_no_hash_keys_or_some_and_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        if let Ok(keys) = ring::HashKeys::read(&bytes) {
            prop_assert!(keys.written().matches(&bytes));
        }
    }
}

#[test]
fn keyed_hashes_differ_by_purpose_and_by_key() {
    let vault = vault(1);
    let hashes = HashPurpose::ALL.map(|purpose| vault.keyed_hash(purpose, b"same"));
    for (index, hash) in hashes.iter().enumerate() {
        assert!(!hashes[index + 1..].contains(hash));
    }
    assert_ne!(hashes[0], self::vault(2).keyed_hash(HashPurpose::ApiKey, b"same"));
    assert!(vault.matches(HashPurpose::ApiKey, b"same", &hashes[0]));
    for (value, hash) in
        [(&b"sane"[..], &hashes[0][..]), (b"same", &hashes[1]), (b"same", &hashes[0][..31]), (b"same", b"")]
    {
        assert!(!vault.matches(HashPurpose::ApiKey, value, hash));
    }
    assert_eq!(vault.fingerprint(b"same").len(), 16);
}

#[test]
fn derivation_is_the_same_in_every_version() {
    // Fixed forever: a change here would lose every stored secret. Computed apart from this code, with
    // HKDF and HMAC of another library.
    assert_eq!(master(1).id().to_string(), "b4fa54ae4f13bd0a");
    assert_eq!(vault(1).fingerprint(b"same"), "c066f8daf84cd209");
}

#[test]
fn a_value_sealed_by_the_first_version_opens() {
    let tenant = Tenant::default();
    let label = Label::new(&tenant, Purpose::Secret, "openai", 3).origin(Some("https://api.openai.com"));
    let sealed = "AbT6VK5PE70KzhLI45MM1oQyhKNBQuwqZ1lWo4CCE9TdegbleY+x6/EJ+R3pDpaDQeUiB1HTLOGP2KyH6s86sqDl6b+/ec7iAaBV\
        rR4wRYksBp+BJDlfpMT90cs5XTqM2OqxjcFUxsHQ2iIpae3Mtvpg9w==";
    let bytes = STANDARD.decode(sealed).unwrap();
    assert!(vault(1).open(&label, &Sealed::from_bytes(bytes).unwrap()).unwrap().matches(KEY));
}

#[test]
fn a_value_over_the_limit_is_refused_and_one_at_the_limit_is_not() {
    let (vault, tenant) = (vault(1), Tenant::default());
    let label = Label::new(&tenant, Purpose::Secret, "big", 1);
    let most = vec![7; MAX_PLAINTEXT];
    let sealed = vault.seal(&label, &most).unwrap();
    let reread = Sealed::from_bytes(sealed.as_bytes().to_vec()).unwrap();
    assert!(vault.open(&label, &reread).unwrap().matches(&most));
    assert_eq!(vault.seal(&label, &vec![7; MAX_PLAINTEXT + 1]).err(), Some(VaultError::TooLong));
    let mut longer = sealed.as_bytes().to_vec();
    longer.push(0);
    assert_eq!(Sealed::from_bytes(longer).err(), Some(VaultError::Malformed("too long")));
}

#[test]
fn a_master_key_seals_no_more_than_its_nonces_allow() {
    let (vault, tenant) = (vault(1), Tenant::default());
    let label = Label::new(&tenant, Purpose::Secret, "n", 1);
    vault.seals.store(MAX_SEALS - 1, Ordering::Relaxed);
    assert!(vault.seal(&label, KEY).is_ok());
    assert_eq!(vault.seal(&label, KEY).err(), Some(VaultError::Exhausted(vault.key_id())));
}

#[test]
fn nothing_printed_shows_a_key_or_a_value() {
    let (vault, tenant) = (vault(1), Tenant::default());
    let sealed = vault.seal(&Label::new(&tenant, Purpose::Secret, "n", 1), KEY).unwrap();
    assert_eq!(format!("{sealed:?}"), format!("Sealed({} bytes)", sealed.as_bytes().len()));
    assert_eq!(format!("{:?}", master(1)), format!("MasterKey({})", master(1).id()));
    assert_eq!(format!("{vault:?}"), format!("Vault {{ key_id: {}, older: 0, .. }}", vault.key_id()));
}

#[test]
fn a_key_file_is_private_complete_and_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("master.key");
    assert_eq!(MasterKey::read_file(&path).err().unwrap().reason(), "master_key_missing");
    let key = MasterKey::generate(&SystemRng).unwrap();
    key.create_file(&path).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
    assert_eq!(std::fs::read(&path).unwrap().len(), 69);
    assert_eq!(MasterKey::read_file(&path).unwrap().id(), key.id());
    assert_eq!(master(1).create_file(&path).err().unwrap().reason(), "master_key_exists");
    assert_eq!(MasterKey::read_file(&path).unwrap().id(), key.id());
}

#[test]
fn a_key_file_others_can_reach_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("master.key");
    master(1).create_file(&path).unwrap();
    for mode in [0o644, 0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o660, 0o777] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let error = MasterKey::read_file(&path).err().unwrap();
        assert_eq!(error.reason(), "master_key_permissions", "{mode:o}");
        assert!(error.to_string().contains("chmod 600"));
    }
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
    assert!(MasterKey::read_file(&path).is_ok());
    assert_eq!(MasterKey::read_file(dir.path()).err().unwrap().reason(), "master_key_malformed");
}

#[test]
fn a_text_that_is_not_exactly_a_key_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("master.key");
    master(1).create_file(&path).unwrap();
    let good = std::fs::read_to_string(&path).unwrap();
    let zeros = format!("vouchgate-master-key-v1\n{}=\n", "A".repeat(43));
    let wrong = [
        String::new(),
        good.replace("v1", "v2"),
        good.replace('\n', "\r\n"),
        good.replacen('\n', "", 1),
        good.replacen('\n', "\n\n", 1),
        format!("{good}\n"),
        format!("{good}{good}"),
        format!(" {good}"),
        good.replace('=', ""),
        good.replace('=', "A"),
        good.chars().take(60).collect(),
        zeros,
        "x".repeat(300),
    ];
    for text in wrong {
        std::fs::write(&path, &text).unwrap();
        let error = MasterKey::read_file(&path).err().unwrap();
        assert_eq!(error.reason(), "master_key_malformed", "{text:?}");
        assert!(!error.to_string().contains(good.lines().nth(1).unwrap()));
    }
    std::fs::write(&path, good.trim_end()).unwrap();
    assert_eq!(MasterKey::read_file(&path).unwrap().id(), master(1).id());
}

proptest! {
    #[test]
    fn any_value_round_trips_through_bytes(
        value in proptest::collection::vec(any::<u8>(), 0..300),
        name in ".{0,40}",
        version in any::<u64>(),
        origin in proptest::option::of(".{0,40}"),
        seed in any::<u64>(),
    ) {
        let (vault, tenant) = (vault(seed), Tenant::default());
        let label = Label::new(&tenant, Purpose::Secret, &name, version).origin(origin.as_deref());
        let sealed = vault.seal(&label, &value).unwrap();
        let reread = Sealed::from_bytes(sealed.as_bytes().to_vec()).unwrap();
        prop_assert!(vault.open(&label, &reread).unwrap().matches(&value));
    }

    #[test]
    fn arbitrary_bytes_never_open_and_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        let (vault, tenant) = (vault(1), Tenant::default());
        if let Ok(sealed) = Sealed::from_bytes(bytes) {
            prop_assert!(vault.open(&Label::new(&tenant, Purpose::Secret, "n", 1), &sealed).is_err());
        }
    }

    #[test]
    fn any_cut_of_a_sealed_value_is_refused(keep in 0usize..97) {
        let (vault, tenant) = (vault(1), Tenant::default());
        let sealed = vault.seal(&Label::new(&tenant, Purpose::Secret, "n", 1), b"").unwrap();
        prop_assert_eq!(sealed.as_bytes().len(), 97);
        prop_assert!(Sealed::from_bytes(sealed.as_bytes()[..keep].to_vec()).is_err());
    }

    #[test]
    fn a_key_id_reads_back(bytes in any::<[u8; 8]>(), text in ".{0,20}") {
        let id = KeyId::from_bytes(bytes);
        prop_assert_eq!(id.to_string().parse::<KeyId>(), Ok(id));
        if let Ok(id) = text.parse::<KeyId>() {
            prop_assert_eq!(id.to_string(), text);
        }
    }
}

proptest! {
    // Each case waits for the disk.
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn a_key_file_with_another_byte_is_refused_or_another_key(index in 0usize..69, byte in any::<u8>()) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("master.key");
        master(1).create_file(&path).unwrap();
        let mut text = std::fs::read(&path).unwrap();
        let changed = std::mem::replace(&mut text[index], byte) != byte;
        std::fs::write(&path, text).unwrap();
        if let Ok(key) = MasterKey::read_file(&path) {
            prop_assert_eq!(key.id() != master(1).id(), changed);
        }
    }
}
