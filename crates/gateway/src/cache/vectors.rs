//! What finds answers by the meaning of their questions: vectors, in groups of requests alike in everything else.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Mutex, PoisonError};

use super::Key;

/// Most questions of one group: each is compared with.
const MOST: usize = 256;
/// Most numbers of a vector.
const DIMENSIONS: usize = 8192;
/// What a vector costs besides its numbers.
const VECTOR_BYTES: u64 = 192;

/// All vectors.
#[derive(Debug, Default)]
pub(super) struct Vectors(Mutex<Held>);

#[derive(Debug, Default)]
struct Held {
    groups: HashMap<Key, VecDeque<Question>>,
    /// The group of each question, by its number: the oldest first.
    order: BTreeMap<u64, Key>,
    next: u64,
    bytes: u64,
    most: u64,
}

#[derive(Debug)]
struct Question {
    number: u64,
    unit: Box<[f32]>,
    answer: Key,
}

impl Question {
    fn bytes(&self) -> u64 {
        (self.unit.len() * 4) as u64 + VECTOR_BYTES
    }
}

/// `vector` with length one; `None` for what is no direction.
pub(super) fn unit(vector: &[f32]) -> Option<Box<[f32]>> {
    if vector.is_empty() || vector.len() > DIMENSIONS || !vector.iter().all(|x| x.is_finite()) {
        return None;
    }
    let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    if length == 0.0 {
        return None;
    }
    #[allow(clippy::cast_possible_truncation)] // from -1 to 1
    Some(vector.iter().map(|x| (f64::from(*x) / length) as f32).collect())
}

fn cosine(a: &[f32], b: &[f32]) -> f64 {
    if a.len() != b.len() {
        return 0.0;
    }
    f64::from(a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>()).min(1.0)
}

impl Vectors {
    /// Take so many bytes from now on.
    pub(super) fn resize(&self, bytes: u64) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.most = bytes;
        held.fit();
    }

    /// Forget all of them.
    pub(super) fn clear(&self) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *held = Held { most: held.most, ..Held::default() };
    }

    /// Remember that the question `vector` of the group `rest` is answered by `answer`.
    pub(super) fn add(&self, rest: Key, vector: &[f32], answer: Key) {
        let Some(unit) = unit(vector) else { return };
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.remove(&rest, |question| question.answer == answer);
        let number = held.next;
        held.next += 1;
        let question = Question { number, unit, answer };
        held.bytes += question.bytes();
        let group = held.groups.entry(rest).or_default();
        group.push_back(question);
        let first = if group.len() > MOST { group.front().map(|question| question.number) } else { None };
        held.order.insert(number, rest);
        if let Some(first) = first {
            held.remove(&rest, |question| question.number == first);
        }
        held.fit();
    }

    /// The answers to questions of the group `rest` at least so alike to `vector`, the most alike first.
    pub(super) fn near(&self, rest: &Key, vector: &[f32], threshold: f64) -> Vec<(Key, f64)> {
        let Some(unit) = unit(vector) else { return Vec::new() };
        let held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let group = held.groups.get(rest).into_iter().flatten();
        let mut near: Vec<(Key, f64)> = group
            .map(|question| (question.answer, cosine(&question.unit, &unit)))
            .filter(|(_, similarity)| *similarity >= threshold)
            .collect();
        near.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        near
    }

    /// The answer is gone.
    pub(super) fn forget(&self, rest: &Key, answer: &Key) {
        let mut held = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        held.remove(rest, |question| question.answer == *answer);
    }
}

impl Held {
    fn remove(&mut self, rest: &Key, which: impl Fn(&Question) -> bool) {
        let Some(group) = self.groups.get_mut(rest) else { return };
        let (order, bytes) = (&mut self.order, &mut self.bytes);
        group.retain(|question| {
            let goes = which(question);
            if goes {
                order.remove(&question.number);
                *bytes = bytes.saturating_sub(question.bytes());
            }
            !goes
        });
        if group.is_empty() {
            self.groups.remove(rest);
        }
    }

    /// Let the oldest go until the rest fits.
    fn fit(&mut self) {
        while self.bytes > self.most {
            let Some((number, rest)) = self.order.pop_first() else { break };
            self.remove(&rest, |question| question.number == number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn vectors(bytes: u64) -> Vectors {
        let vectors = Vectors::default();
        vectors.resize(bytes);
        vectors
    }

    fn answers(vectors: &Vectors, rest: u8, vector: &[f32], threshold: f64) -> Vec<Key> {
        vectors.near(&Key::of(rest), vector, threshold).into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn the_most_alike_come_first_and_only_of_the_same_group() {
        let all = vectors(1 << 20);
        all.add(Key::of(1), &[1.0, 0.0], Key::of(10));
        all.add(Key::of(1), &[1.0, 1.0], Key::of(11));
        all.add(Key::of(2), &[1.0, 0.0], Key::of(12));
        assert_eq!(answers(&all, 1, &[3.0, 0.1], 0.7), [Key::of(10), Key::of(11)]);
        assert_eq!(answers(&all, 1, &[3.0, 0.1], 0.95), [Key::of(10)]);
        assert_eq!(answers(&all, 3, &[1.0, 0.0], 0.5), Vec::<Key>::new());
        all.forget(&Key::of(1), &Key::of(10));
        assert_eq!(answers(&all, 1, &[1.0, 0.0], 0.7), [Key::of(11)]);
    }

    #[test]
    fn what_is_no_direction_is_like_nothing() {
        let all = vectors(1 << 20);
        all.add(Key::of(1), &[0.0, 0.0], Key::of(10));
        all.add(Key::of(1), &[f32::NAN, 1.0], Key::of(11));
        all.add(Key::of(1), &[], Key::of(12));
        all.add(Key::of(1), &vec![1.0; DIMENSIONS + 1], Key::of(13));
        all.add(Key::of(1), &[1.0, 0.0, 0.0], Key::of(14));
        for vector in [&[0.0, 0.0][..], &[f32::INFINITY, 0.0], &[1.0, 0.0]] {
            assert_eq!(answers(&all, 1, vector, 0.5), Vec::<Key>::new(), "{vector:?}");
        }
        assert_eq!(answers(&all, 1, &[1.0, 0.0, 0.0], 1.0), [Key::of(14)]);
    }

    #[test]
    fn the_oldest_go_when_there_is_no_more_room() {
        let all = vectors(3 * (8 + VECTOR_BYTES));
        for answer in 1..=5 {
            all.add(Key::of(1), &[1.0, 0.0], Key::of(answer));
        }
        let mut left = answers(&all, 1, &[1.0, 0.0], 0.9);
        left.sort_by_key(|key| *key != Key::of(3));
        assert_eq!((left.len(), left.first()), (3, Some(&Key::of(3))));
        all.resize(0);
        assert_eq!(answers(&all, 1, &[1.0, 0.0], 0.9), Vec::<Key>::new());
        assert_eq!(all.0.lock().expect("lock").groups.len(), 0);
    }

    proptest! {
        #[test]
        fn the_room_taken_is_bounded_and_counted(adds in proptest::collection::vec((0u8..4, 0u8..20, 1usize..6), 0..400)) {
            let all = vectors(4000);
            for (rest, answer, length) in adds {
                all.add(Key::of(rest), &vec![1.0; length], Key::of(answer));
                let held = all.0.lock().expect("lock");
                let counted: u64 = held.groups.values().flatten().map(Question::bytes).sum();
                prop_assert_eq!(counted, held.bytes);
                prop_assert!(held.bytes <= 4000);
                prop_assert_eq!(held.order.len(), held.groups.values().map(VecDeque::len).sum::<usize>());
            }
        }
    }
}
