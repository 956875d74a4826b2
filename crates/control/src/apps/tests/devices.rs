//! What a device is called stays the same, whatever becomes of the keys that name it.

use vault::{MasterKey, Vault};
use vouchgate_client::attester::{AttestError, Attestation, Request as Asked};
use vouchgate_client::signer::SoftwareKey;

use super::*;
use base::{SeededRng, SystemRng};

const MOVING: &str = "[[app]]\nname = \"moving\"\nscopes = [\"chat\"]\napproov = { secret = { env = \"A\" } }\n";

/// A phone whose app has an Approov token, bound to its key.
struct Approved(&'static str);

impl Attester for Approved {
    fn platform(&self) -> Platform {
        Platform::Ios
    }

    fn new_key(&self) -> Result<Option<Arc<dyn Signer>>, AttestError> {
        Ok(Some(Arc::new(SoftwareKey::generate().unwrap())))
    }

    fn attest(&self, _: &Asked<'_>, key: Option<Arc<dyn Signer>>) -> Result<Attestation, AttestError> {
        let signer = key.unwrap();
        let bound = base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            sha256(signer.public_jwk().thumbprint().as_bytes()),
        );
        let claims = json!({"exp": NOW + 300, "did": self.0, "pay": bound});
        let token = testkit::keys::TestKey::hmac("HS256", sha256(b"approov")).mint(&claims);
        Ok(Attestation { signer, evidence: json!({"type": "approov", "token": token}) })
    }
}

async fn name_of(world: &World, device: &'static str) -> String {
    let enrolled = world.enrol("moving", &Approved(device)).await;
    let store = world.fixture.operations.store();
    store.instances().get(enrolled.id()).await.unwrap().unwrap().attested.device.unwrap()
}

#[tokio::test]
async fn a_device_that_enrolled_before_the_master_key_was_replaced_is_recognised_after() {
    let world = World::with(MOVING, AttemptLimits { per_minute: 1000, ..AttemptLimits::default() }).await;
    let (vault, tenant) = (world.fixture.operations.vault(), world.fixture.operations.store().tenant());
    // Seen by a version that had no key for this alone.
    let first = name_of(&world, "phone-1").await;
    assert!(!first.contains("phone-1"));
    vault.take_lasting(tenant, &vault.lasting_key(tenant).unwrap()).unwrap();
    assert_eq!(name_of(&world, "phone-1").await, first, "its name is the one it had");
    let second = name_of(&world, "phone-2").await;
    assert_ne!(second, first);
    // The vault's master key is replaced.
    vault.adopt(MasterKey::generate(&SeededRng::new(99)).unwrap(), Vec::new()).unwrap();
    world.fixture.operations.vault_rewrap("test").await.unwrap();
    assert_eq!((name_of(&world, "phone-1").await, name_of(&world, "phone-2").await), (first.clone(), second.clone()));
    assert!(![first, second].contains(&name_of(&world, "phone-3").await));
}

#[tokio::test]
async fn the_key_of_lasting_hashes_is_sealed_anew_with_everything_else() {
    let world = World::with(MOVING, AttemptLimits::default()).await;
    let operations = &world.fixture.operations;
    let (vault, tenant, meta) = (operations.vault(), operations.store().tenant(), operations.store().meta());
    let written =
        |sealed: &vault::Sealed| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, sealed.as_bytes());
    let read = |text: String| {
        let bytes = base64::Engine::decode(&base64::engine::general_purpose::STANDARD, text).unwrap();
        vault::Sealed::from_bytes(bytes).unwrap()
    };
    let kept = vault.lasting_key(tenant).unwrap();
    vault.take_lasting(tenant, &kept).unwrap();
    meta.set(crate::operations::LASTING_HASH_KEY, &written(&kept)).await.unwrap();
    let name = vault.keyed_hash(vault::HashPurpose::Device, b"a device");
    let new = || MasterKey::generate(&SeededRng::new(99)).unwrap();
    vault.adopt(new(), Vec::new()).unwrap();
    let done = operations.vault_rewrap("test").await.unwrap();
    assert_eq!(done.left, []);
    let anew = read(meta.get(crate::operations::LASTING_HASH_KEY).await.unwrap().unwrap());
    let after = Vault::new(new(), Arc::new(SystemRng)).unwrap();
    after.take_lasting(tenant, &anew).unwrap();
    assert_eq!(after.keyed_hash(vault::HashPurpose::Device, b"a device"), name);
}
