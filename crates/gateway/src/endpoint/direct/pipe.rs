//! Answers too large to be held, because of the pictures in them.

use bytes::Bytes;
use llm::Usage;
use llm::passthrough::{AnswerTap, Said};

use crate::relay::{Kind, Pipe, State};

/// A JSON answer that passes as it comes, while what it says it took is read along.
#[derive(Debug, Default)]
pub(super) struct Large {
    tap: AnswerTap,
    cut: bool,
}

impl Pipe for Large {
    fn feed(&mut self, piece: &Bytes) -> Bytes {
        self.tap.feed(piece);
        piece.clone()
    }

    fn finish(&mut self, clean: bool) -> Bytes {
        self.cut = !clean;
        Bytes::new()
    }

    fn is_well(&self) -> bool {
        true
    }

    fn state(&self) -> State {
        if self.cut { State::Broken("upstream_cut") } else { State::Open }
    }

    fn usage(&self) -> Usage {
        self.tap.usage()
    }

    fn said(&self) -> Said {
        Said::default()
    }

    fn kind(&self) -> Kind {
        Kind::Bytes
    }
}
