//! `dunlin` for dollars per sample and for deadlines, on traces whose answer is known.

#![allow(clippy::unwrap_used, reason = "a test")]

use dunlin_spot::cost::{CostModel, Rules};
use dunlin_spot::market::{Market, PriceSeries};
use dunlin_spot::objective::Objective;
use dunlin_spot::policy::Notice;
use dunlin_spot::profile::Profile;
use dunlin_spot::replay::{Replay, Supply, Terms, replay, replay_on};
use dunlin_spot::trace::{Availability, ReadOptions, read};

fn p3(minutes: usize) -> Availability {
    let text: &[u8] = include_bytes!("../data/p3_minutes.csv");
    let whole = read(text, "p3_minutes.csv", &ReadOptions::default()).unwrap().availability(60_000).unwrap();
    whole.segment(0, minutes).unwrap()
}

fn bert() -> CostModel {
    CostModel::new(&Profile::built_in("bert").unwrap())
}

fn market(trace: &Availability, costs: &CostModel, rows: &str) -> Market {
    let series = PriceSeries::read(rows.as_bytes(), "prices").unwrap();
    Market::new(Some(&series), trace, None, costs.profile().dollars_per_hour, Supply::default()).unwrap()
}

fn with(trace: &Availability, costs: &CostModel, word: &str, market: Option<&Market>) -> Replay {
    let terms = Terms { objective: Objective::parse(word).unwrap(), market, ..Terms::default() };
    replay_on("dunlin", trace, costs, Notice::AtEvent, terms).unwrap()
}

#[test]
fn samples_without_prices_are_what_they_always_were() {
    let (trace, costs) = (p3(120), bert());
    let (plain, same) =
        (replay("dunlin", &trace, &costs, Notice::AtEvent).unwrap(), with(&trace, &costs, "samples", None));
    assert_eq!(plain.samples_per_second.to_bits(), same.samples_per_second.to_bits());
    assert_eq!(plain.dollars_per_million_samples, same.dollars_per_million_samples);
    assert_eq!(plain.relayouts, same.relayouts);
}

#[test]
fn dollars_take_the_layout_that_is_cheapest_for_a_sample() {
    // 34.09 samples/s a machine for 1x2, less for every larger layout of the table.
    let (trace, costs) = (Availability::from_counts(60_000, &[16; 60]), bert());
    let found = with(&trace, &costs, "dollars", None);
    assert!(found.turns.iter().all(|turn| turn.spent.layout.to_string() == "1x2"));
    let by_hand =
        2.0 * 0.918 / 3600.0 / costs.profile().samples_per_second(found.turns[0].spent.layout) * 1e6;
    assert!((found.dollars_per_million_samples.unwrap() / by_hand - 1.0).abs() < 1e-9);
    assert!((found.hours.released - 14.0).abs() < 1e-9, "{:?}", found.hours);
    // Who says that samples are worth much gets all that the machines can do.
    let rich = with(&trace, &costs, "dollars:1e6", None);
    let most = with(&trace, &costs, "samples", None);
    assert!((rich.samples_per_second / most.samples_per_second - 1.0).abs() < 1e-9);
}

#[test]
fn a_spike_of_the_price_makes_it_wait_and_a_smaller_one_shrink() {
    let (trace, costs) = (Availability::from_counts(60_000, &[16; 90]), bert());
    let rate = |layout| costs.profile().samples_per_second(layout);
    for (worth, wanted) in [("dollars", "idle"), ("dollars:20", "smaller")] {
        let spike = if wanted == "idle" { "9.18" } else { "1.5" };
        let rows = format!("seconds,dollars_per_hour\n0,0.918\n1800,{spike}\n3600,0.918\n");
        let found = with(&trace, &costs, worth, Some(&market(&trace, &costs, &rows)));
        let layout = |minute: usize| found.turns[minute].spent.layout;
        // Prices are seen with the machines: at the event, at once.
        for minute in 31..60 {
            let smaller = !layout(minute).is_idle() && layout(minute).machines() < layout(10).machines();
            assert!(
                if wanted == "idle" { layout(minute).is_idle() } else { smaller },
                "{minute}: {}",
                layout(minute)
            );
        }
        assert!(rate(layout(75)) >= rate(layout(10)), "{worth}: it comes back: {}", layout(75));
        let paid: f64 = found.dollars_each[31..60].iter().sum();
        assert!(wanted != "idle" || paid == 0.0, "{paid}");
    }
}

#[test]
fn dollars_cost_less_a_sample_than_samples_do_on_every_model() {
    for (model, rules) in [
        ("resnet152", Rules::Published),
        ("vgg19", Rules::Corrected),
        ("bert", Rules::Corrected),
        ("gpt-1.5b", Rules::Published),
        ("gpt-6.7b", Rules::Published),
    ] {
        let trace = p3(120);
        let costs = CostModel::with_rules(&Profile::built_in(model).unwrap(), rules);
        let million = |word: &str| with(&trace, &costs, word, None).dollars_per_million_samples.unwrap();
        let (dollars, samples) = (million("dollars"), million("samples"));
        assert!(dollars < samples, "{model}: ${dollars} against ${samples}");
    }
}

#[test]
fn a_deadline_that_is_certain_has_chance_one_and_one_that_cannot_be_none() {
    let (trace, costs) = (Availability::from_counts(60_000, &[16; 120]), bert());
    let hour = costs.profile().samples_per_second(costs.profile().best(16)) * 3600.0;
    let easy = with(&trace, &costs, &format!("deadline:{}@1", 0.2 * hour), None);
    assert!(easy.turns.last().unwrap().spent.layout.is_idle(), "what is done is released");
    let easy = easy.finish.unwrap();
    assert!(easy.chance.unwrap() > 0.999 && easy.seconds.unwrap() <= 3600.0, "{easy:?}");
    let hard = with(&trace, &costs, &format!("deadline:{}@2", 9.0 * hour), None);
    let finish = hard.finish.unwrap();
    assert_eq!((finish.chance, finish.seconds, finish.dollars), (Some(0.0), None, 0.0));
    // By hand: at full speed all the time; sixteen machines are paid until it is done.
    let sure = with(&trace, &costs, &format!("deadline:{}@2", 1.95 * hour), None);
    let finish = sure.finish.unwrap();
    assert!((1.95 * 3600.0 - 1.0..=7200.0).contains(&finish.seconds.unwrap()), "{finish:?}");
    assert!((finish.dollars - 1.95 * 16.0 * 0.918).abs() < 0.5, "{finish:?}");
}

#[test]
fn machines_on_demand_are_bought_when_the_others_are_too_few() {
    let counts: Vec<u32> = (0..120).map(|minute| if minute < 30 { 16 } else { 2 }).collect();
    let (trace, costs) = (Availability::from_counts(60_000, &counts), bert());
    let hour = costs.profile().samples_per_second(costs.profile().best(16)) * 3600.0;
    let objective = Objective::Deadline { samples: 1.2 * hour, seconds: 7200.0 };
    let of = |on_demand| {
        let supply = Supply { on_demand, boot_s: 0.0 };
        let terms = Terms { objective, supply, market: None };
        replay_on("dunlin", &trace, &costs, Notice::AtEvent, terms).unwrap()
    };
    assert_eq!(of(0).finish.unwrap().seconds, None);
    let bought = of(16);
    assert!(bought.finish.unwrap().seconds.is_some(), "{:?}", bought.finish);
    let paid = |minutes: std::ops::Range<usize>| bought.dollars_each[minutes].iter().sum::<f64>();
    let spot_alone = 16.0 * 0.918 / 60.0;
    assert!(
        paid(5..15) <= 10.0 * spot_alone + 1e-9,
        "while there are others nothing is bought: {}",
        paid(5..15)
    );
    assert!(paid(31..40) > 9.0 * 2.0 * 0.918 / 60.0 * 2.0, "then it is: {}", paid(31..40));
}

#[test]
fn what_cannot_be_is_refused() {
    let (trace, costs) = (p3(60), bert());
    let terms = Terms { objective: Objective::parse("deadline:1e6@2").unwrap(), ..Terms::default() };
    let error = replay_on("dunlin", &trace, &costs, Notice::None, terms).unwrap_err().to_string();
    assert_eq!(error, "a deadline after 2 h; the trace has 1.00 h");
    let empty = Availability { interval_ms: 60_000, intervals: Vec::new() };
    let terms = Terms { objective: Objective::Dollars { per_million: None }, ..Terms::default() };
    assert!(replay_on("dunlin", &empty, &costs, Notice::None, terms).is_err());
    // Nobody there for an hour: it waits, and pays nothing.
    let nobody = Availability::from_counts(60_000, &[0; 60]);
    for word in ["dollars", "dollars:5", "deadline:1e6@1"] {
        let found = with(&nobody, &costs, word, None);
        assert_eq!((found.samples_per_second, found.dollars), (0.0, 0.0));
    }
}
