//! Keys that are well-formed and still must not be trusted.

use super::jwk::KeyError;

/// Smallest and largest RSA modulus in bits (RFC 7518 section 3.3; the upper end bounds the cost of a signature).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Smallest RSA public exponent: below it, padding mistakes anywhere become forgeries.
const MIN_EXPONENT: u64 = 65_537;

const SMALL_PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109,
    113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];

/// Check an RSA public key: both numbers in minimal big-endian form (RFC 7518 section 6.3.1), a modulus of
/// acceptable size with no small factor and without the fingerprint of CVE-2017-15361 (ROCA), an odd exponent
/// from 65,537 up.
pub(super) fn check_rsa(n: &[u8], e: &[u8]) -> Result<(), KeyError> {
    let (Some(&first), Some(&last)) = (n.first(), n.last()) else { return Err(KeyError::Encoding) };
    if first == 0 || e.first().is_none_or(|&b| b == 0) {
        return Err(KeyError::Encoding);
    }
    let bits = n.len() * 8 - first.leading_zeros() as usize;
    if !RSA_BITS.contains(&bits) {
        return Err(KeyError::Size);
    }
    let exponent = if e.len() > 8 { 0 } else { e.iter().fold(0u64, |value, &b| (value << 8) | u64::from(b)) };
    if exponent < MIN_EXPONENT || exponent % 2 == 0 {
        return Err(KeyError::Exponent);
    }
    let residue = |prime: u32| n.iter().fold(0u32, |value, &b| ((value << 8) | u32::from(b)) % prime);
    if last % 2 == 0 || SMALL_PRIMES.into_iter().any(|prime| residue(prime) == 0) {
        return Err(KeyError::Modulus);
    }
    // Primes of the flawed generator are powers of 65537 modulo every small prime, and so is their product. A sound
    // modulus looks so for all of these primes by chance with probability below 2^-27.
    if SMALL_PRIMES.into_iter().all(|prime| is_power_of_65537(residue(prime), prime)) {
        return Err(KeyError::Roca);
    }
    Ok(())
}

fn is_power_of_65537(value: u32, prime: u32) -> bool {
    let generator = 65_537 % prime;
    let mut power = 1;
    for _ in 0..prime {
        if power == value {
            return true;
        }
        power = power * generator % prime;
    }
    false
}

/// 2^255 - 19, little-endian.
const P: [u8; 32] = {
    let mut p = [0xff; 32];
    p[0] = 0xed;
    p[31] = 0x7f;
    p
};

/// The y coordinates of the eight points of small order, little-endian: 1, -1, 0 and the two of order eight.
const SMALL_ORDER_Y: [[u8; 32]; 5] = [
    {
        let mut one = [0; 32];
        one[0] = 1;
        one
    },
    {
        let mut minus_one = P;
        minus_one[0] -= 1;
        minus_one
    },
    [0; 32],
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5, 0xdf,
        0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a, 0x20,
        0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
];

/// Check an Ed25519 public key: y in canonical form (RFC 8032 section 5.1.3), the point not of small order, for
/// which one signature fits many messages. aws-lc-rs checks neither.
pub(super) fn check_ed25519(public: &[u8]) -> Result<(), KeyError> {
    let mut y: [u8; 32] = public.try_into().map_err(|_| KeyError::Encoding)?;
    if let Some(last) = y.last_mut() {
        *last &= 0x7f; // the sign of x
    }
    if !y.iter().rev().lt(P.iter().rev()) {
        return Err(KeyError::Encoding);
    }
    if SMALL_ORDER_Y.contains(&y) { Err(KeyError::SmallOrder) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const F4: &[u8] = &[1, 0, 1];

    /// An odd number of 2048 bits without small factors (searched, not a real modulus).
    fn modulus(start: u8) -> Vec<u8> {
        let mut n = vec![0xc5; 256];
        n[1] = start;
        for tail in (1..=u16::MAX).step_by(2) {
            n[254..].copy_from_slice(&tail.to_be_bytes());
            if check_rsa(&n, F4).is_ok() {
                return n;
            }
        }
        unreachable!()
    }

    /// A number that is a power of 65537 modulo every small prime: 65537^k itself.
    fn roca_like() -> Vec<u8> {
        // Little-endian base-256 digits of 65537^k, k chosen for 2048 bits or a little more.
        let mut digits = vec![1u8];
        while digits.len() < 257 {
            let mut carry = 0u32;
            let shifted: Vec<u8> = [&[0, 0], digits.as_slice()].concat();
            digits.resize(shifted.len(), 0);
            for (digit, add) in digits.iter_mut().zip(shifted) {
                let sum = u32::from(*digit) + u32::from(add) + carry;
                *digit = (sum & 0xff) as u8;
                carry = sum >> 8;
            }
            if carry > 0 {
                digits.push(u8::try_from(carry).unwrap());
            }
        }
        digits.reverse();
        let zeros = digits.iter().take_while(|&&d| d == 0).count();
        digits.split_off(zeros)
    }

    #[test]
    fn rsa_keys_outside_the_policy_are_refused() {
        let n = modulus(7);
        assert_eq!(check_rsa(&n, F4), Ok(()));
        assert_eq!(check_rsa(&n[1..], F4), Err(KeyError::Size));
        assert_eq!(check_rsa(&n[128..], F4), Err(KeyError::Size));
        assert_eq!(check_rsa(&[&[0], n.as_slice()].concat(), F4), Err(KeyError::Encoding));
        assert_eq!(check_rsa(&n, &[0, 1, 0, 1]), Err(KeyError::Encoding));
        assert_eq!(check_rsa(&vec![0xc5; 1025], F4), Err(KeyError::Size));
        for weak in [&[1u8][..], &[3], &[17], &[1, 0, 0], &[0xff; 9]] {
            assert_eq!(check_rsa(&n, weak), Err(KeyError::Exponent), "{weak:?}");
        }
        let mut even = n.clone();
        even[255] &= 0xfe;
        assert_eq!(check_rsa(&even, F4), Err(KeyError::Modulus));
        assert_eq!(check_rsa(&[], F4), Err(KeyError::Encoding));
        assert_eq!(check_rsa(&n, &[]), Err(KeyError::Encoding));
    }

    #[test]
    fn the_roca_fingerprint_is_recognised() {
        assert_eq!(check_rsa(&roca_like(), F4), Err(KeyError::Roca));
    }

    #[test]
    fn ed25519_points_of_small_order_and_other_spellings_are_refused() {
        for y in SMALL_ORDER_Y {
            assert_eq!(check_ed25519(&y), Err(KeyError::SmallOrder));
            let mut negative = y;
            negative[31] |= 0x80;
            assert_eq!(check_ed25519(&negative), Err(KeyError::SmallOrder));
        }
        for above in 0..19u8 {
            let mut y = P;
            y[0] += above;
            assert_eq!(check_ed25519(&y), Err(KeyError::Encoding), "p + {above}");
            y[31] |= 0x80;
            assert_eq!(check_ed25519(&y), Err(KeyError::Encoding), "p + {above}, negative");
        }
        assert_eq!(check_ed25519(&[9; 31]), Err(KeyError::Encoding));
    }

    proptest! {
        #[test]
        fn random_moduli_do_not_look_like_roca(start in any::<u8>()) {
            prop_assert_eq!(modulus(start).len(), 256);
        }

        #[test]
        fn any_numbers_are_judged(n in proptest::collection::vec(any::<u8>(), 0..300),
                                  e in proptest::collection::vec(any::<u8>(), 0..12)) {
            let _ = (check_rsa(&n, &e), check_ed25519(&e));
        }
    }
}
