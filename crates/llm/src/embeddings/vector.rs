//! A vector: as numbers, digit for digit, or as the bytes of 32-bit floats in base64.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::ResponseError;
use crate::json::{Limits, node, quoted};

/// A vector as a provider wrote it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Vector<'a> {
    /// `[0.1,-2e-3]`
    Numbers(&'a str),
    /// Little-endian floats of 32 bits.
    Bytes(Vec<u8>),
}

const SHAPE: ResponseError = ResponseError::Shape("vector");

impl<'a> Vector<'a> {
    /// Read a vector: an array of numbers, or a text in base64. `raw` is JSON already.
    pub(super) fn read(raw: &'a str) -> Result<Self, ResponseError> {
        if raw.starts_with('"') {
            let text = node(raw, &Limits::RESPONSE)?.text().unwrap_or_default().into_owned();
            let bytes = STANDARD.decode(text).map_err(|_| SHAPE)?;
            return if bytes.is_empty() || bytes.len() % 4 != 0 { Err(SHAPE) } else { Ok(Self::Bytes(bytes)) };
        }
        // It is JSON: an array in which nothing but numbers stands holds no other character.
        let inner = raw.strip_prefix('[').and_then(|raw| raw.strip_suffix(']')).ok_or(SHAPE)?;
        let numeric = |b: u8| b.is_ascii_digit() || b"+-.eE, \t\r\n".contains(&b);
        if inner.trim().is_empty() || !inner.bytes().all(numeric) {
            return Err(SHAPE);
        }
        Ok(Self::Numbers(raw))
    }

    /// As an array of numbers: the very digits, or the fewest that name the same float.
    pub(super) fn numbers(&self) -> Result<String, ResponseError> {
        match self {
            Self::Numbers(raw) => Ok((*raw).to_owned()),
            Self::Bytes(bytes) => {
                let mut out = String::with_capacity(bytes.len() * 3);
                for four in bytes.chunks_exact(4) {
                    let float = f32::from_le_bytes(four.try_into().map_err(|_| SHAPE)?);
                    if !float.is_finite() {
                        return Err(SHAPE);
                    }
                    out.push(if out.is_empty() { '[' } else { ',' });
                    out.push_str(&float.to_string());
                }
                out.push(']');
                Ok(out)
            }
        }
    }

    /// As a JSON text in base64.
    pub(super) fn base64(&self) -> Result<String, ResponseError> {
        let encoded = match self {
            Self::Bytes(bytes) => STANDARD.encode(bytes),
            Self::Numbers(raw) => {
                let inner = raw.trim_start_matches('[').trim_end_matches(']');
                let floats = inner.split(',').map(|number| number.trim().parse::<f32>().map_err(|_| SHAPE));
                let mut bytes = Vec::with_capacity(inner.len() / 2);
                for float in floats {
                    bytes.extend_from_slice(&float?.to_le_bytes());
                }
                STANDARD.encode(bytes)
            }
        };
        Ok(quoted(&encoded))
    }
}
