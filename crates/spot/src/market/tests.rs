use super::*;
use crate::trace::{Content, ReadOptions, read};

const PRICES: &str = "seconds,zone,dollars_per_hour\n0,a,1\n0,b,2\n60,b,0.5\n";

fn events(rows: &str) -> (Availability, ByZone) {
    let source = read(rows.as_bytes(), "rows", &ReadOptions::default()).unwrap();
    let Content::Events(trace) = &source.content else { panic!("event rows") };
    (trace.availability(60_000).unwrap(), trace.by_zone(60_000).unwrap())
}

fn prices(text: &str) -> PriceSeries {
    PriceSeries::read(text.as_bytes(), "prices").unwrap()
}

const DOLLARS: Dollars = Dollars { spot: 0.9, on_demand: 3.0 };

#[test]
fn every_machine_costs_what_its_zone_does_and_the_cheapest_are_rented_first() {
    let (trace, zones) = events("0,add,x,a\n0,add,y,b\n10,add,z,b\n60000,remove,y\n120000,add,y,a\n");
    let market =
        Market::new(Some(&prices(PRICES)), &trace, Some(&zones), DOLLARS, Supply::default()).unwrap();
    let all: Vec<f64> = market.bills().iter().map(Bill::of_all).collect();
    assert_eq!(all, [1.0 + 2.0 * 2.0, 1.0 + 0.5, 2.0 * 1.0 + 0.5]); // y comes again, to another zone
    let one: Vec<f64> = market.bills().iter().map(|bill| bill.dollars_per_hour(1)).collect();
    assert_eq!(one, [1.0, 0.5, 0.5]);
}

#[test]
fn machines_that_stay_have_their_own_price_and_those_that_boot_are_paid() {
    let trace = Availability::from_counts(60_000, &[2, 4, 4]);
    let supply = Supply { on_demand: 1, boot_s: 60.0 };
    let market = Market::new(None, &trace, None, DOLLARS, supply).unwrap();
    let bill = &market.bills()[1];
    assert_eq!(bill.of_all(), 4.0 * 0.9 + 3.0);
    assert!((bill.dollars_per_hour(0) - 2.0 * 0.9).abs() < 1e-12, "two boot");
    assert_eq!(market.bills()[2].dollars_per_hour(5), 4.0 * 0.9 + 3.0);
}

#[test]
fn a_machine_without_a_clear_price_is_refused() {
    let (trace, zones) = events("0,add,x,a\n0,add,y,c\n");
    let (bare, none) = events("0,add,x\n");
    let (mixed, some) = events("0,add,x,a\n0,add,y\n");
    let of = |text: &str, trace, zones| {
        Market::new(Some(&prices(text)), trace, Some(zones), DOLLARS, Supply::default())
    };
    for (made, wanted) in [
        (of(PRICES, &trace, &zones), "zone c of the trace has no price; there are prices of a, b"),
        (of(PRICES, &bare, &none), "there are prices of zones a, b, but the trace does not say"),
        (of(PRICES, &mixed, &some), "some machines of the trace have a zone and some have none"),
    ] {
        let error = made.unwrap_err().to_string();
        assert!(error.starts_with(wanted), "{error}");
    }
    // One price for all, whatever the trace says; one zone, of which the trace says nothing.
    for (text, trace, zones) in [
        ("seconds,dollars_per_hour\n0,4\n", &trace, &zones),
        ("seconds,zone,dollars_per_hour\n0,q,4\n", &bare, &none),
    ] {
        let market = of(text, trace, zones).unwrap();
        assert_eq!(market.bills()[0].of_all(), 4.0 * f64::from(trace.intervals[0].after()));
    }
}

#[test]
fn a_trace_changed_after_it_was_read_is_billed_for_its_own_numbers() {
    let (mut trace, zones) = events("0,add,x,a\n0,add,y,b\n0,add,z,b\n60000,remove,y\n");
    for (machines, wanted) in [(5, 1.0 + 4.0 * 0.5), (1, 1.0), (0, 0.0)] {
        trace.intervals[1] = Interval { before: machines, added: 0, removed: 0 };
        let market =
            Market::new(Some(&prices(PRICES)), &trace, Some(&zones), DOLLARS, Supply::default()).unwrap();
        let bill = &market.bills()[1];
        assert_eq!(bill.machines(), machines);
        if machines != 1 {
            assert_eq!(bill.of_all(), wanted, "{machines} machines");
        }
    }
}
