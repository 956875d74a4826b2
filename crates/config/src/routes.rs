//! Paths of the public listener that are taken, now or by name.

/// Paths that are exactly these.
const EXACT: &[&str] = &[
    "/console",
    "/livez",
    "/metrics",
    "/openapi.json",
    "/readyz",
    "/startupz",
    "/v1/batches",
    "/v1/chat/completions",
    "/v1/completions",
    "/v1/embeddings",
    "/v1/files",
    "/v1/messages",
    "/v1/models",
    "/v1/moderations",
    "/v1/realtime",
    "/v1/responses",
];

/// Paths that begin with these.
const BELOW: &[&str] = &[
    "/.well-known/",
    "/admin/",
    "/attest/",
    "/console/",
    "/oauth/",
    "/providers/",
    "/v1/audio/",
    "/v1/chat/",
    "/v1/images/",
    "/v1/messages/",
    "/v1/models/",
    "/v1/responses/",
    "/v1beta/",
];

/// The route of Vouchgate that `path` (everything below it, if it ends with `/`) would collide with.
pub(crate) fn collision(path: &str) -> Option<&'static str> {
    let prefix = path.ends_with('/');
    let with = |route: &&&'static str| {
        let route: &str = route;
        let same = path.trim_end_matches('/') == route.trim_end_matches('/');
        same || (prefix && route.starts_with(path)) || (route.ends_with('/') && path.starts_with(route))
    };
    EXACT.iter().chain(BELOW).find(with).copied()
}

/// Whether two declared paths would compete for a request.
pub(crate) fn overlap(a: &str, b: &str) -> bool {
    let covers = |outer: &str, inner: &str| outer.ends_with('/') && inner.starts_with(outer);
    a.trim_end_matches('/') == b.trim_end_matches('/') || covers(a, b) || covers(b, a)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn built_in_routes_cannot_be_covered() {
        for path in
            ["/v1/chat/completions", "/v1/", "/providers/x", "/oauth", "/v1/models/x", "/livez/", "/v1/messages/"]
        {
            assert!(collision(path).is_some(), "{path}");
        }
        for path in ["/v1/analyzing", "/maps/", "/v1x", "/v1/modelsx", "/adminx"] {
            assert!(collision(path).is_none(), "{path}");
        }
    }

    #[test]
    fn a_prefix_competes_with_what_lies_below_it() {
        assert!(overlap("/maps/", "/maps/x"));
        assert!(overlap("/maps", "/maps/"));
        assert!(overlap("/a/b/", "/a/"));
        assert!(!overlap("/maps", "/maps/x"));
        assert!(!overlap("/maps/", "/mapsx"));
    }
}
