//! In which order the targets of a model are tried.

use base::Money;
use config::Strategy;

use super::facts::Facts;
use crate::health::Choice;
use crate::snapshot::{Model, ModelTarget, Route};

/// One request in so many tries another target than the one that is quickest, to find out whether that is still so.
const EXPLORE: f64 = 0.02;
/// Tokens of an answer to a request that names no bound: an estimate.
const SUPPOSED_OUTPUT: u64 = 1000;

/// A target that is not tried, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Left {
    /// A condition that does not hold.
    Unmet(&'static str),
    /// It is a shadow: it gets copies only.
    Shadow,
    /// It is a canary, and this request is not among its share.
    Canary,
}

/// The targets in the order they are tried, and those that are not.
#[derive(Debug, Default)]
pub(crate) struct Order {
    pub(crate) tried: Vec<usize>,
    pub(crate) left: Vec<(usize, Left)>,
}

/// The order for a request. `now`: milliseconds, as the targets' states count.
pub(crate) fn order(model: &Model, facts: &Facts<'_>, client: Option<&str>, (choice, now): (Choice<'_>, u64)) -> Order {
    let mut order = Order::default();
    let mut canaries = Vec::new();
    for (index, route) in model.routes.iter().enumerate() {
        match route.when.as_ref().and_then(|when| when.unmet(facts, client)) {
            Some(condition) => order.left.push((index, Left::Unmet(condition))),
            None if route.shadow.is_some() => order.left.push((index, Left::Shadow)),
            None => match route.canary {
                Some(percent) => canaries.push((index, percent)),
                None => order.tried.push(index),
            },
        }
    }
    match model.strategy {
        Strategy::Fallback => {}
        Strategy::Weighted => by_place(&mut order.tried, |index| {
            let key = model.targets.get(index).map(ModelTarget::key).unwrap_or_default();
            choice.place(&key, model.routes.get(index).map_or(1, |route| route.weight))
        }),
        Strategy::Latency => {
            let state = |index: usize| model.states.get(index).and_then(Option::as_ref);
            by_place(&mut order.tried, |index| state(index).map_or(0.0, |state| state.score(facts.streamed, now)));
            if order.tried.len() > 1 && choice.draw("explore") <= EXPLORE {
                order.tried.rotate_left(1);
            }
        }
        Strategy::Cost => order.tried.sort_by_key(|index| {
            let cost = cost(model, *index, facts);
            (cost.is_none(), cost)
        }),
    }
    if !canaries.is_empty() {
        let chosen = canary(&canaries, choice.draw("canary"));
        let others = canaries.into_iter().map(|(index, _)| index).filter(|index| Some(*index) != chosen);
        order.left.extend(others.map(|index| (index, Left::Canary)));
        if let Some(index) = chosen {
            order.tried.insert(0, index);
        }
    }
    order
}

/// The shadows that get a copy of a request.
pub(super) fn shadows(model: &Model, facts: &Facts<'_>, client: Option<&str>, choice: Choice<'_>) -> Vec<usize> {
    let gets = |(index, route): (usize, &Route)| {
        let share = route.shadow?;
        let fits = route.when.as_ref().is_none_or(|when| when.unmet(facts, client).is_none());
        let key = model.targets.get(index).map(ModelTarget::key).unwrap_or_default();
        (fits && choice.draw(&format!("shadow {key}")) <= share).then_some(index)
    };
    model.routes.iter().enumerate().filter_map(gets).collect()
}

/// The canary in whose share a draw from 0 to 1 falls.
fn canary(canaries: &[(usize, u32)], draw: f64) -> Option<usize> {
    let mut end = 0.0;
    canaries.iter().find_map(|(index, percent)| {
        end += f64::from(*percent) / 100.0;
        (draw <= end).then_some(*index)
    })
}

/// What a request costs at a target, if it gets as many tokens as it asks for: an estimate, for comparing.
pub(super) fn cost(model: &Model, index: usize, facts: &Facts<'_>) -> Option<Money> {
    let price = model.routes.get(index)?.price.as_ref()?;
    Some(price.nominal(facts.input_tokens(), facts.output.unwrap_or(SUPPOSED_OUTPUT)))
}

/// The lowest place first; equals stay in the order they are written.
fn by_place(targets: &mut Vec<usize>, place: impl Fn(usize) -> f64) {
    let mut placed: Vec<(f64, usize)> = targets.iter().map(|index| (place(*index), *index)).collect();
    placed.sort_by(|(a, _), (b, _)| a.total_cmp(b));
    *targets = placed.into_iter().map(|(_, index)| index).collect();
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::snapshot::tests::{model, model_with};
    use base::SeededRng;
    use http::HeaderMap;

    fn first(model: &Model, choice: Choice<'_>, now: u64) -> usize {
        let headers = HeaderMap::new();
        order(model, &Facts::new(&headers, b"{}"), None, (choice, now)).tried[0]
    }

    #[test]
    fn a_canary_gets_its_share_and_nothing_else() {
        let model =
            model(r#"[{ provider = "a", model = "x" }, { provider = "b", model = "y", canary = 10 }]"#, "fallback");
        let rng = SeededRng::new(3);
        let choice = Choice { sticky: None, rng: &rng };
        let canaries = (0..2000).filter(|_| first(&model, choice, 1) == 1).count();
        assert!((150..250).contains(&canaries), "{canaries}");
        let headers = HeaderMap::new();
        for sticky in 0..100 {
            let choice = Choice { sticky: Some(sticky), rng: &rng };
            let order = order(&model, &Facts::new(&headers, b"{}"), None, (choice, 1));
            match order.tried.as_slice() {
                [1, 0] => assert!(order.left.is_empty()),
                tried => assert_eq!((tried, order.left.as_slice()), ([0].as_slice(), [(1, Left::Canary)].as_slice())),
            }
            assert_eq!(first(&model, choice, 1), order.tried[0], "the same session, the same target");
        }
    }

    #[test]
    fn a_shadow_gets_copies_of_its_share_and_answers_nothing() {
        let targets = r#"[{ provider = "a", model = "x" }, { provider = "b", model = "y", shadow = 0.1, when = { tools = false } }, { provider = "b", model = "z", shadow = 1.0 }]"#;
        let model = model(targets, "fallback");
        let rng = SeededRng::new(11);
        let headers = HeaderMap::new();
        let choice = Choice { sticky: None, rng: &rng };
        let copies: Vec<Vec<usize>> =
            (0..2000).map(|_| shadows(&model, &Facts::new(&headers, b"{}"), None, choice)).collect();
        let often = copies.iter().filter(|copies| copies.contains(&1)).count();
        assert!((150..250).contains(&often), "{often}");
        assert!(copies.iter().all(|copies| copies.contains(&2) && !copies.contains(&0)));
        let order = order(&model, &Facts::new(&headers, b"{}"), None, (choice, 1));
        assert_eq!((order.tried.as_slice(), order.left), ([0].as_slice(), vec![(1, Left::Shadow), (2, Left::Shadow)]));
        let tools = Facts::new(&headers, br#"{"tools":[{}]}"#);
        assert!((0..100).all(|_| shadows(&model, &tools, None, choice) == [2]));
    }

    #[test]
    fn weights_share_requests_and_conditions_leave_targets_out() {
        let targets = r#"[{ provider = "a", model = "x", weight = 3 }, { provider = "b", model = "y" }, { provider = "b", model = "z", when = { tools = true } }]"#;
        let model = model(targets, "weighted");
        let rng = SeededRng::new(5);
        let choice = Choice { sticky: None, rng: &rng };
        let often = (0..2000).filter(|_| first(&model, choice, 1) == 0).count();
        assert!((1400..1600).contains(&often), "{often}");
        let headers = HeaderMap::new();
        let without = order(&model, &Facts::new(&headers, b"{}"), None, (choice, 1));
        assert_eq!(without.left, [(2, Left::Unmet("tools"))]);
        let with = order(&model, &Facts::new(&headers, br#"{"tools":[{}]}"#), None, (choice, 1));
        assert_eq!(with.tried.len(), 3);
    }

    #[test]
    fn the_cheapest_goes_first_and_what_is_unpriced_last() {
        let targets = r#"[{ provider = "a", model = "unheard-of" }, { provider = "a", model = "dear" }, { provider = "b", model = "cheap" }]"#;
        let price = |provider: &str, model: &str, input: &str, output: &str| {
            format!(
                "[[price]]\nprovider = \"{provider}\"\nmodel = \"{model}\"\ninput = \"{input} USD\"\noutput = \"{output} USD\"\n"
            )
        };
        let prices = format!("{}{}", price("a", "dear", "1", "20"), price("b", "cheap", "2", "4"));
        let model = model_with(targets, "cost", &prices);
        let rng = SeededRng::new(5);
        let headers = HeaderMap::new();
        let choice = Choice { sticky: None, rng: &rng };
        let of = |output: u64, body: &[u8]| {
            let facts = Facts { output: Some(output), ..Facts::new(&headers, body) };
            order(&model, &facts, None, (choice, 1)).tried
        };
        assert_eq!(of(100, b"{}"), [2, 1, 0]);
        assert_eq!(of(1, &[b' '; 4000]), [1, 2, 0], "a long prompt and a short answer");
    }

    #[test]
    fn the_quickest_goes_first_what_is_unknown_is_found_out_and_others_now_and_then() {
        let model = model(r#"[{ provider = "a", model = "x" }, { provider = "b", model = "y" }]"#, "latency");
        let rng = SeededRng::new(9);
        let choice = Choice { sticky: None, rng: &rng };
        let latency = |index: usize| &model.states[index].as_ref().expect("remote").whole;
        latency(0).observe(1, 900);
        let of = |count: usize| (0..count).filter(|_| first(&model, choice, 1) == 1).count();
        assert!(of(100) > 90, "nothing is known of the second");
        latency(1).observe(1, 2000);
        let others = of(1000);
        assert!((5..50).contains(&others), "{others}");
    }
}
