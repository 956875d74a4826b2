//! What events mean here: which tokens end.

use proof::secevent::{ComplexSubject, Event, EventKind, SecurityEventToken, SubjectId};
use store::Revoke;

use super::super::request::unavailable;
use super::super::{Oauth, OauthError};
use super::not_before;
use super::transmitters::Known;

/// What was done about a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Done {
    /// Something was revoked.
    Acted,
    /// Nothing was to be done, or it is about nobody who could be known here.
    Nothing,
    /// The transmitter showed that the stream works.
    Verified,
}

/// Whose tokens an event ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// The session's.
    Session,
    /// The device's.
    Device,
    /// All of the person's.
    Person,
}

impl Oauth {
    /// Do what a token asks, for the first time.
    pub(super) async fn act(&self, known: &Known, token: &SecurityEventToken) -> Result<Done, OauthError> {
        let mut done = Done::Nothing;
        let transmitter = known.transmitter.name.as_str();
        for event in token.events() {
            if let EventKind::Verification { .. } = event.kind {
                tracing::info!(transmitter, "the stream of security events works");
                done = if done == Done::Nothing { Done::Verified } else { done };
                continue;
            }
            let Some(reach) = reach(&event.kind) else {
                tracing::info!(transmitter, event = name(&event.kind), "a security event that ends nothing");
                continue;
            };
            let what = self.meant(known, token.subject(), reach).await?;
            if what.is_empty() {
                let format = token.subject().format();
                tracing::warn!(target: "audit", transmitter, event = name(&event.kind), format, "nobody known is meant");
                continue;
            }
            self.end(known, token, event, what).await?;
            done = Done::Acted;
        }
        Ok(done)
    }

    async fn end(
        &self,
        known: &Known,
        token: &SecurityEventToken,
        event: &Event,
        what: Vec<Revoke>,
    ) -> Result<(), OauthError> {
        let operations = self.operations();
        let up_to_now = operations.store().revocations().now();
        let moment = not_before(operations.clock().now(), up_to_now, token, token.happened_at(event));
        let by = format!("transmitter {}", known.transmitter.name);
        operations.revoke_now(what, (moment, &by), name(&event.kind)).await.map_err(|error| unavailable(&error))
    }

    /// What a subject is here. Where only a part of a person's tokens is meant and that part cannot be told from the rest,
    /// all of them are: a session that we have not seen may be the one somebody stole.
    async fn meant(&self, known: &Known, subject: &SubjectId, reach: Reach) -> Result<Vec<Revoke>, OauthError> {
        let SubjectId::Complex(parts) = subject else { return Ok(simple(known, subject, reach)) };
        // Shared Signals Framework section 3.3: who leaves out a member means more than was said.
        if !parts.unknown.is_empty() {
            return Ok(Vec::new());
        }
        let ComplexSubject { user, device, session, .. } = &**parts;
        let issuer = || known.transmitter.subjects.to_string();
        let person: Vec<Revoke> = user.iter().flat_map(|user| simple(known, user, Reach::Person)).collect();
        let session = session.as_ref().and_then(|session| identifier(known, session));
        let device = device.as_ref().and_then(|device| identifier(known, device));
        let refresh = self.operations().store().refresh();
        let failed = |error: store::StoreError| unavailable(&error.into());
        let (narrow, is_known) = match (reach, session, device) {
            (Reach::Person, ..) if !person.is_empty() => return Ok(person),
            (Reach::Session | Reach::Person, Some(session), _) => {
                let is_known = refresh.knows_session(&issuer(), &session).await.map_err(failed)?;
                (Revoke::Session { issuer: issuer(), session }, is_known)
            }
            (_, _, Some(device)) => {
                let is_known = refresh.knows_device(&issuer(), &device).await.map_err(failed)?;
                (Revoke::Device { issuer: issuer(), device }, is_known)
            }
            _ => return Ok(person),
        };
        let rest = if is_known { Vec::new() } else { person };
        Ok(std::iter::once(narrow).chain(rest).collect())
    }
}

/// Which tokens end with an event; nothing where none do.
fn reach(event: &EventKind) -> Option<Reach> {
    match event {
        EventKind::SessionRevoked => Some(Reach::Session),
        EventKind::DeviceComplianceChange { compliant: false } => Some(Reach::Device),
        // A new credential beside the others ends nothing.
        EventKind::CredentialChange { change, .. } => (change != "create").then_some(Reach::Person),
        // Its tokens say what is no longer so.
        EventKind::TokenClaimsChange
        | EventKind::AccountDisabled
        | EventKind::AccountPurged
        | EventKind::CredentialCompromise => Some(Reach::Person),
        EventKind::AssuranceLevelChange { direction, .. } => {
            (direction.as_deref() != Some("increase")).then_some(Reach::Person)
        }
        EventKind::RiskLevelChange { current } => current.eq_ignore_ascii_case("high").then_some(Reach::Person),
        EventKind::DeviceComplianceChange { compliant: true }
        | EventKind::Verification { .. }
        | EventKind::StreamUpdated { .. }
        | EventKind::Unknown(_) => None,
    }
}

/// A subject of one part.
fn simple(known: &Known, subject: &SubjectId, reach: Reach) -> Vec<Revoke> {
    let issuer = known.transmitter.subjects.to_string();
    match subject {
        SubjectId::JwtId { iss, jti } => {
            known.speaks_of(iss).then(|| Revoke::Token { issuer, jti: jti.clone() }).into_iter().collect()
        }
        SubjectId::Aliases(all) => all.iter().flat_map(|one| simple(known, one, reach)).collect(),
        one if reach == Reach::Device => {
            identifier(known, one).map(|device| Revoke::Device { issuer, device }).into_iter().collect()
        }
        SubjectId::Email(mail) => {
            let subject = mail.clone();
            known.subjects_are_mail.then_some(Revoke::Subject { issuer, subject }).into_iter().collect()
        }
        one => identifier(known, one).map(|subject| Revoke::Subject { issuer, subject }).into_iter().collect(),
    }
}

/// What names a person, session or device at the issuer.
fn identifier(known: &Known, subject: &SubjectId) -> Option<String> {
    match subject {
        SubjectId::IssSub { iss, sub } => known.speaks_of(iss).then(|| sub.clone()),
        SubjectId::Opaque(text) | SubjectId::Uri(text) | SubjectId::Did(text) => Some(text.clone()),
        _ => None,
    }
}

impl Known {
    /// Whether a subject that names this issuer is one the transmitter may speak of.
    fn speaks_of(&self, iss: &str) -> bool {
        iss == self.transmitter.issuer || self.subjects_iss.as_deref() == Some(iss)
    }
}

/// What an event is called in records.
const fn name(event: &EventKind) -> &'static str {
    match event {
        EventKind::SessionRevoked => "session revoked",
        EventKind::CredentialChange { .. } => "credential change",
        EventKind::TokenClaimsChange => "token claims change",
        EventKind::DeviceComplianceChange { .. } => "device compliance change",
        EventKind::AssuranceLevelChange { .. } => "assurance level change",
        EventKind::RiskLevelChange { .. } => "risk level change",
        EventKind::AccountDisabled => "account disabled",
        EventKind::AccountPurged => "account purged",
        EventKind::CredentialCompromise => "credential compromise",
        EventKind::Verification { .. } => "verification",
        EventKind::StreamUpdated { .. } => "stream updated",
        EventKind::Unknown(_) => "unknown event",
    }
}
