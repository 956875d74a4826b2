//! What can be wrong with `[audit]`.

use base::Span;

use super::{DAY, between, destination};
use crate::AuditSection;
use crate::audit::AuditPublish;
use crate::fault::{Code, Faults};
use crate::resource::Alone;

impl Alone for AuditSection {
    fn alone(&self, faults: &mut Faults) {
        between(self.retention, DAY, Span::secs(36_500 * 86_400), "retention", faults);
        for (index, place) in self.publish.iter().enumerate() {
            place.alone(&format!("publish[{index}]"), faults);
            if self.publish.iter().take(index).any(|before| before.name == place.name) {
                faults.add(format!("publish[{index}].name"), Code::BadValue, "named twice");
            }
        }
        if !self.enabled && !self.publish.is_empty() {
            faults.add("publish", Code::Conflict, "there is nothing to publish").hint("leave out enabled = false");
        }
    }
}

impl AuditPublish {
    fn alone(&self, at: &str, faults: &mut Faults) {
        match (&self.file, &self.s3) {
            (None, None) => {
                faults.add(at, Code::MissingKey, "nothing says where to").hint("give file or s3");
            }
            (Some(_), Some(_)) => {
                faults.add(at, Code::Conflict, "two places at once").hint("write another [[audit.publish]]");
            }
            _ => {}
        }
        let store = self.s3.is_some();
        for (key, given, needed) in [
            ("region", self.region.is_some(), true),
            ("key", self.key.is_some(), true),
            ("allow_private", self.allow_private, false),
        ] {
            let path = format!("{at}.{key}");
            if given && !store {
                faults.add(path, Code::Conflict, "this has no meaning for a file");
            } else if needed && store && !given {
                faults.add(at, Code::MissingKey, format!("the key {key} is missing"));
            }
        }
        if let Some(url) = &self.s3 {
            destination(url, self.allow_private, &format!("{at}.s3"), faults);
        }
        if self.region.as_ref().is_some_and(|region| !region.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')) {
            faults.add(format!("{at}.region"), Code::BadValue, "not the name of a region").hint("such as eu-central-1");
        }
    }
}

#[cfg(test)]
mod tests {
    fn faults(places: &str) -> Vec<String> {
        let faults = crate::parse(places).err().unwrap_or_default();
        faults.into_iter().map(|fault| format!("{}: {}", fault.path, fault.message)).collect()
    }

    fn place(name: &str, more: &str) -> String {
        format!("[[audit.publish]]\nname = \"{name}\"\n{more}\n")
    }

    #[test]
    fn a_place_for_checkpoints_is_one_and_whole() {
        let s3 = "s3 = \"https://b.s3.eu-central-1.amazonaws.com/logs\"";
        let whole = format!("{s3}\nregion = \"eu-central-1\"\nkey = {{ env = \"KEY\" }}\n");
        let both = format!("{}{}", place("disk", "file = \"/mnt/kept\""), place("bucket", &whole));
        assert_eq!(faults(&both), Vec::<String>::new());
        assert_eq!(faults(&both.replace("bucket", "disk")), ["audit.publish[1].name: named twice"]);
        let at = |key: &str, message: &str| format!("audit.publish[0]{key}: {message}");
        for (text, told) in [
            ("", vec![at("", "nothing says where to")]),
            ("file = \"a\"\nregion = \"x\"", vec![at(".region", "this has no meaning for a file")]),
            (&format!("{whole}file = \"a\""), vec![at("", "two places at once")]),
            (s3, vec![at("", "the key region is missing"), at("", "the key key is missing")]),
            (
                &whole.replace("https://b.s3.eu-central-1.amazonaws.com", "http://127.0.0.1"),
                vec![at(".s3", "a loopback or private address")],
            ),
            (&whole.replace("\"eu-central-1\"", "\"a/b\""), vec![at(".region", "not the name of a region")]),
        ] {
            assert_eq!(faults(&place("p", text)), told, "{text}");
        }
        let off = format!("[audit]\nenabled = false\n{}", place("p", "file = \"a\""));
        assert_eq!(faults(&off), ["audit.publish: there is nothing to publish"]);
    }
}
