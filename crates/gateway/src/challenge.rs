//! `WWW-Authenticate` (RFC 9110 section 11.6.1): how to authenticate here, and what was wrong with the attempt. A fixed
//! vocabulary: nothing a caller sent is repeated.

use crate::edge::Scheme;

/// The algorithms proofs may be signed with (RFC 9449 section 7.1, `algs`).
const ALGS: &str = "ES256 ES384 ES512 EdDSA PS256 PS384 PS512 RS256 RS384 RS512";

/// What a signed request has to cover (RFC 9421 section 5.1, `Accept-Signature`).
pub(crate) const ACCEPT_SIGNATURE: &str = "gw=(\"@method\" \"@target-uri\" \"authorization\" \"content-digest\" \
     \"content-type\");created;expires;nonce;keyid;alg;tag=\"gw-req\"";

/// A challenge that names no error: there were no credentials (RFC 6750 section 3.1).
pub(crate) fn plain(scheme: Scheme) -> String {
    match scheme {
        Scheme::Bearer => "Bearer realm=\"vouchgate\"".to_owned(),
        Scheme::Dpop => format!("DPoP realm=\"vouchgate\", algs=\"{ALGS}\""),
    }
}

/// A challenge with an error, and words for people (`%x20-21 / %x23-5B / %x5D-7E` only).
pub(crate) fn error(scheme: Scheme, error: &'static str, description: Option<&str>) -> String {
    let mut challenge = plain(scheme);
    challenge.push_str(", error=\"");
    challenge.push_str(error);
    challenge.push('"');
    if let Some(description) = description {
        let description: String =
            description.chars().filter(|c| matches!(c, ' '..='!' | '#'..='[' | ']'..='~')).collect();
        challenge.push_str(", error_description=\"");
        challenge.push_str(&description);
        challenge.push('"');
    }
    challenge
}

#[cfg(test)]
mod tests {
    use super::*;
    use proof::dpop::ALGORITHMS;

    #[test]
    fn the_algorithms_named_are_those_that_are_accepted() {
        let named: Vec<&str> = ALGORITHMS.iter().map(|alg| alg.name()).collect();
        assert_eq!(ALGS, named.join(" "));
    }

    #[test]
    fn nothing_can_be_written_out_of_a_description() {
        let challenge = error(Scheme::Bearer, "invalid_token", Some("a\" b=\\\"c\r\n"));
        assert_eq!(challenge, "Bearer realm=\"vouchgate\", error=\"invalid_token\", error_description=\"a b=c\"");
    }
}
