//! Mixed fleets worked out by hand, and against all splits tried.

use super::super::{LayerTable, Measured, Settings, layout, shapes};
use super::Fleet;
use crate::{Layout, Run};

/// Six layers of 1 ms forward and 2 ms backward, no network, nothing to reduce; ten micro-batches.
fn six() -> LayerTable {
    let text = "model,six\nglobal_batch,10\nmicro_batch,1\nsequence,1\nhidden,1\nnetwork,0,0\nnetwork,1000000,0\n\
        tied_embedding,no\n\
        layer,count,forward_ms,backward_ms,optimizer_ms,activation_mib,parameters\nblock,6,1,2,0,1,0\n";
    LayerTable::read(text.as_bytes(), "six").unwrap()
}

#[test]
fn two_pipelines_of_two_and_three_stages_take_the_time_worked_out_by_hand() {
    let table = six();
    let mut fleet = Fleet::new(&table, &Settings::default(), 6);
    // m micro-batches take (m + 1) 9 ms in two stages, (m + 2) 6 ms in three: 4 and 6 of them 45 and 48 ms, 3 and 7 of
    // them 36 and 54 ms, 5 and 5 of them 54 and 42 ms.
    let mixed = fleet.iteration(Layout::mixed((1, 2), (1, 3)), |_| 1.0).unwrap();
    assert_eq!((mixed.iteration_ms, mixed.micro_batches), (48.0, vec![4, 6]));
    // If the deep one is half as fast: 5 and 5 take 54 and 84 ms, 6 and 4 63 and 72 ms, 7 and 3 72 and 60 ms.
    let slower = |stages: u32| if stages == 3 { 2.0 } else { 1.0 };
    let mixed = fleet.iteration(Layout::mixed((1, 2), (1, 3)), slower).unwrap();
    assert_eq!(mixed.iteration_ms, 72.0);
    // Two of two stages and one of three: 3, 3 and 4 take 36 and 36 ms.
    let mixed = fleet.iteration(Layout::mixed((2, 2), (1, 3)), |_| 1.0).unwrap();
    assert_eq!((mixed.iteration_ms, mixed.micro_batches), (36.0, vec![3, 4]));
}

#[test]
fn a_layer_is_reduced_when_every_pipeline_has_its_gradients() {
    // 1.25 MB a layer at 10 Gb/s: 1 ms x 2 (2 - 1) / 2 = 1 ms a layer over two pipelines.
    let mut table = six();
    table.layers.iter_mut().for_each(|layer| layer.parameters = 0.625e6);
    let mut fleet = Fleet::new(&table, &Settings::default(), 6);
    // The first stages end last: at 45 and 48 ms, and reduce three and two layers.
    let mixed = fleet.iteration(Layout::mixed((1, 2), (1, 3)), |_| 1.0).unwrap();
    assert!((mixed.iteration_ms - (48.0 + 3.0)).abs() < 1e-9, "{mixed:?}");
}

#[test]
fn a_single_depth_is_simulated_as_before() {
    for name in ["gpt-1.5b", "gpt-2"] {
        let table = LayerTable::shipped(name).unwrap().unwrap();
        let settings = Settings { compute_scale: 0.3, ..Settings::default() };
        let mut fleet = Fleet::new(&table, &settings, 16);
        for shape in [(1, 16), (2, 7), (4, 3), (5, 1), (3, 2)] {
            let shape = Layout::new(shape.0, shape.1);
            let plain = layout(&table, &settings, shape).unwrap().iteration_ms;
            let ours = fleet.iteration(shape, |_| 1.0).map(|mixed| mixed.iteration_ms);
            assert_eq!(plain, ours, "{name} {shape}");
        }
    }
}

#[test]
fn no_split_tried_is_faster() {
    let table = LayerTable { global_batch: 24, ..six() };
    let mut fleet = Fleet::new(&table, &Settings::default(), 6);
    for (low, high) in
        [((1, 1), (1, 5)), ((2, 2), (1, 3)), ((1, 2), (2, 6)), ((3, 1), (2, 4)), ((4, 1), (1, 2))]
    {
        let ours = fleet.iteration(Layout::mixed(low, high), |_| 1.0).unwrap();
        let runs = [low, high].map(|(pipelines, stages)| Run { pipelines, stages });
        let mut least = f64::INFINITY;
        for each in 1..24 / low.0 + 1 {
            let left = 24u32.saturating_sub(each * low.0);
            if left > 0 {
                let split = [each, left.div_ceil(high.0)];
                least = least.min(fleet.time(&runs, &split, &|_| 1.0).unwrap());
            }
        }
        assert_eq!(ours.iteration_ms, least, "{low:?} {high:?}");
        let worked = ours.micro_batches[0] * low.0 + ours.micro_batches[1] * high.0;
        assert!(worked >= 24, "{ours:?} leaves samples out");
    }
}

#[test]
fn what_cannot_be_has_no_iteration() {
    let table = six();
    let mut fleet = Fleet::new(&table, &Settings::default(), 6);
    for layout in
        [Layout::IDLE, Layout::new(1, 7), Layout::mixed((1, 2), (1, 7)), Layout::mixed((8, 1), (3, 2))]
    {
        assert_eq!(fleet.iteration(layout, |_| 1.0), None, "{layout}");
    }
    let mut tight = six();
    tight.layers.iter_mut().for_each(|layer| layer.parameters = 1e9);
    let mut fleet = Fleet::new(&tight, &Settings::default(), 6);
    assert_eq!(fleet.iteration(Layout::mixed((1, 2), (1, 6)), |_| 1.0), None, "three layers need 36 GB");
}

#[test]
fn shapes_are_all_that_was_not_measured_and_lie_between_what_was() {
    let table = six();
    let mut fleet = Fleet::new(&table, &Settings::default(), 6);
    // Measured: half as fast as simulated, whatever the layout.
    let measured: Vec<Measured> = [(1, 2), (2, 2), (1, 3), (2, 3), (3, 2)]
        .map(|(pipelines, stages)| {
            let layout = Layout::new(pipelines, stages);
            Measured { layout, iteration_ms: 2.0 * fleet.iteration(layout, |_| 1.0).unwrap().iteration_ms }
        })
        .to_vec();
    let all = shapes(&table, &Settings::default(), &measured, 7).unwrap();
    let words: Vec<String> = all.iter().map(|shape| shape.layout.to_string()).collect();
    assert_eq!(words, ["1x4", "1x2+1x3", "1x5", "1x2+1x4", "1x6", "1x2+1x5", "1x3+1x4", "2x2+1x3"]);
    let rate =
        |word: &str| all.iter().find(|shape| shape.layout.to_string() == word).unwrap().samples_per_second;
    assert_eq!(rate("1x2+1x3"), 10.0 * 1e3 / 96.0);
    let of = |at: usize| 10.0 * 1e3 / measured[at].iteration_ms;
    assert!(of(1) < rate("1x2+1x3") && rate("1x2+1x3") < of(3));
    assert!(shapes(&table, &Settings::default(), &[], 7).is_err());
    assert!(shapes(&table, &Settings::default(), &measured, 0).is_err());
}
