//! What an app says with its evidence, and what the evidence is made over: its bytes are hashed as they were sent, then read
//! strictly.

use serde_json::Value;

use super::{Flag, FlagValue, Provenance, provenance};
use crate::jose::json::{self, Limits};
use crate::jose::{JsonError, JsonObject};

/// The longest client data, in bytes.
pub const MAX_LEN: usize = 4 << 10;

/// The most flags an app may report.
const MAX_FLAGS: usize = 32;

const LIMITS: Limits = Limits { bytes: MAX_LEN, depth: 4, values: 128 };

/// What client data is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// To enrol an installation.
    Enroll,
    /// To get its next token.
    Refresh,
}

impl Purpose {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Enroll => "enroll",
            Self::Refresh => "refresh",
        }
    }
}

/// Client data, read.
#[derive(Debug, Clone, PartialEq)]
pub struct ClientData {
    /// The app.
    pub app: String,
    /// Thumbprint of the installation's key, where it was made before.
    pub jkt: Option<String>,
    /// Our nonce.
    pub nonce: String,
    /// The version of the client library.
    pub sdk: String,
    /// The version of the app, as it says itself.
    pub app_version: Option<String>,
    /// What it found out about its surroundings: these flags can only lower trust.
    pub flags: Vec<Flag>,
    /// What it was told over the air, where it says that.
    pub config: Option<HeldConfig>,
}

/// What an app says of the configuration it holds and the pins in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeldConfig {
    /// The configuration's number.
    pub seq: u64,
    /// What became of its pins.
    pub pins: HeldPins,
}

/// What became of the pins an app holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HeldPins {
    /// They are compared, and every host showed one of them.
    Ok,
    /// A host showed another key since the last report.
    Failed,
    /// They are not compared.
    Off,
}

impl HeldPins {
    fn from_name(name: &str) -> Option<Self> {
        match name {
            "ok" => Some(Self::Ok),
            "failed" => Some(Self::Failed),
            "off" => Some(Self::Off),
            _ => None,
        }
    }
}

/// Why client data is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ClientDataError {
    /// Not an acceptable JSON object.
    #[error("the client data is refused: {0}")]
    Json(JsonError),
    /// A member is missing, unknown or of another form.
    #[error("{0} is missing, unknown or of another form")]
    Member(&'static str),
    /// For something else.
    #[error("the client data is for something else")]
    Purpose,
}

impl ClientDataError {
    /// A stable code.
    pub const fn reason(self) -> &'static str {
        match self {
            Self::Json(error) => error.reason(),
            Self::Member(_) => "client_data_members",
            Self::Purpose => "client_data_purpose",
        }
    }
}

const KNOWN: [&str; 10] = ["app", "app_version", "config", "flags", "jkt", "nonce", "purpose", "sdk", "ts", "v"];

impl ClientData {
    /// Read client data that must be for `purpose`. Of more than [`MAX_LEN`] bytes nothing is read.
    pub fn read(bytes: &[u8], purpose: Purpose) -> Result<Self, ClientDataError> {
        let members = json::object(bytes, LIMITS).map_err(ClientDataError::Json)?;
        if members.keys().any(|name| !KNOWN.contains(&name.as_str())) {
            return Err(ClientDataError::Member("a member"));
        }
        if members.get("v").and_then(Value::as_u64) != Some(1) {
            return Err(ClientDataError::Member("v"));
        }
        if text(&members, "purpose", 16)? != purpose.as_str() {
            return Err(ClientDataError::Purpose);
        }
        members.get("ts").and_then(Value::as_i64).ok_or(ClientDataError::Member("ts"))?;
        let optional = |name, most| members.contains_key(name).then(|| text(&members, name, most)).transpose();
        Ok(Self {
            app: text(&members, "app", 128)?.to_owned(),
            jkt: optional("jkt", 43)?.map(str::to_owned),
            nonce: text(&members, "nonce", 128)?.to_owned(),
            sdk: text(&members, "sdk", 64)?.to_owned(),
            app_version: optional("app_version", 64)?.map(str::to_owned),
            flags: flags(&members)?,
            config: config(&members)?,
        })
    }
}

/// `{"pins":"ok","seq":7}`: nothing else.
fn config(members: &JsonObject) -> Result<Option<HeldConfig>, ClientDataError> {
    const WRONG: ClientDataError = ClientDataError::Member("config");
    let Some(given) = members.get("config") else { return Ok(None) };
    let given = given.as_object().filter(|given| given.len() == 2).ok_or(WRONG)?;
    let seq = given.get("seq").and_then(Value::as_u64).ok_or(WRONG)?;
    let pins = given.get("pins").and_then(Value::as_str).and_then(HeldPins::from_name).ok_or(WRONG)?;
    Ok(Some(HeldConfig { seq, pins }))
}

/// A text of printable ASCII.
fn text<'a>(members: &'a JsonObject, name: &'static str, most: usize) -> Result<&'a str, ClientDataError> {
    let text = members.get(name).and_then(Value::as_str).ok_or(ClientDataError::Member(name))?;
    let good = (1..=most).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() || b == b' ');
    if good { Ok(text) } else { Err(ClientDataError::Member(name)) }
}

/// Flags of the catalogue that an app reports of itself. Names that are not known are passed over: a newer library may know
/// more. A name that is not the app's to say is refused.
fn flags(members: &JsonObject) -> Result<Vec<Flag>, ClientDataError> {
    const WRONG: ClientDataError = ClientDataError::Member("flags");
    let Some(given) = members.get("flags") else { return Ok(Vec::new()) };
    let given = given.as_object().filter(|given| given.len() <= MAX_FLAGS).ok_or(WRONG)?;
    let mut flags = Vec::new();
    for (name, value) in given {
        match provenance(name) {
            None => continue,
            Some(Provenance::Reported) => {}
            Some(_) => return Err(WRONG),
        }
        let value = match value {
            Value::Bool(false) => continue,
            Value::Bool(true) => FlagValue::Set(true),
            Value::Number(number) => FlagValue::Number(number.as_i64().ok_or(WRONG)?),
            Value::String(text) if text.len() <= 64 => FlagValue::Text(text.clone()),
            _ => return Err(WRONG),
        };
        flags.extend(Flag::new(name, value));
    }
    Ok(flags)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn data() -> Value {
        json!({"app": "chat", "flags": {"frida": true, "vpn": false, "from-the-future": 1}, "jkt": "k", "nonce": "n",
               "purpose": "enroll", "sdk": "1.0.0", "ts": 1_795_219_200, "v": 1})
    }

    fn read(data: &Value) -> Result<ClientData, &'static str> {
        ClientData::read(data.to_string().as_bytes(), Purpose::Enroll).map_err(ClientDataError::reason)
    }

    #[test]
    fn client_data_is_read_and_flags_that_are_not_known_are_passed_over() {
        let read = read(&data()).unwrap();
        assert_eq!((read.app.as_str(), read.jkt.as_deref(), read.nonce.as_str()), ("chat", Some("k"), "n"));
        assert_eq!(read.flags.iter().map(Flag::name).collect::<Vec<_>>(), ["frida"]);
    }

    #[test]
    fn what_an_app_holds_is_read() {
        let mut data = data();
        assert_eq!(read(&data).unwrap().config, None);
        data["config"] = json!({"seq": 7, "pins": "failed"});
        assert_eq!(read(&data).unwrap().config, Some(HeldConfig { seq: 7, pins: HeldPins::Failed }));
    }

    #[test]
    fn anything_else_is_refused() {
        let with = |name: &str, value: Value| {
            let mut data = data();
            data[name] = value;
            read(&data).map(|_| ())
        };
        for (name, value, reason) in [
            ("v", json!(2), "client_data_members"),
            ("purpose", json!("refresh"), "client_data_purpose"),
            ("app", json!(""), "client_data_members"),
            ("app", json!("a\u{7}b"), "client_data_members"),
            ("nonce", json!("n".repeat(129)), "client_data_members"),
            ("ts", json!("now"), "client_data_members"),
            ("extra", json!(1), "client_data_members"),
            ("flags", json!([]), "client_data_members"),
            ("config", json!(7), "client_data_members"),
            ("config", json!({"seq": 7}), "client_data_members"),
            ("config", json!({"seq": -7, "pins": "ok"}), "client_data_members"),
            ("config", json!({"seq": 7, "pins": "perhaps"}), "client_data_members"),
            ("config", json!({"seq": 7, "pins": "ok", "more": 1}), "client_data_members"),
            ("flags", json!({"bootloader_unlocked": false}), "client_data_members"),
            ("flags", json!({"category": 4}), "client_data_members"),
            ("flags", json!({"frida": {}}), "client_data_members"),
        ] {
            assert_eq!(with(name, value.clone()), Err(reason), "{name} {value}");
        }
        let twice = data().to_string().replacen("\"v\":1", "\"v\":1,\"v\":1", 1);
        assert!(ClientData::read(twice.as_bytes(), Purpose::Enroll).is_err());
        let long = data().to_string().replace("1.0.0", &"1".repeat(MAX_LEN));
        assert!(ClientData::read(long.as_bytes(), Purpose::Enroll).is_err());
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..256)) {
            let _ = ClientData::read(&bytes, Purpose::Refresh);
        }
    }
}
