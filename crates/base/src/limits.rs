//! Bounded growth.

/// A byte buffer that refuses to grow past its limit, for whatever collects data from outside.
#[derive(Debug)]
pub struct LimitedBuffer {
    bytes: Vec<u8>,
    limit: usize,
}

impl LimitedBuffer {
    /// An empty buffer that holds at most `limit` bytes.
    pub fn new(limit: usize) -> Self {
        Self { bytes: Vec::new(), limit }
    }

    /// Append `more`, or change nothing and return `false` when it would not fit.
    #[must_use]
    pub fn push(&mut self, more: &[u8]) -> bool {
        if self.bytes.len().saturating_add(more.len()) > self.limit {
            return false;
        }
        self.bytes.extend_from_slice(more);
        true
    }

    /// What has been collected.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// What has been collected, by value.
    pub fn into_vec(self) -> Vec<u8> {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_buffer_refuses_and_keeps_what_it_has() {
        let mut buffer = LimitedBuffer::new(4);
        assert!(buffer.push(b"abc"));
        assert!(!buffer.push(b"de"));
        assert!(buffer.push(b"d"));
        assert_eq!(buffer.into_vec(), b"abcd");
    }
}
