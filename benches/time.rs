//! How long the cases take on this machine, for comparing two versions by hand: `cargo bench --bench time -- FILTER`. What CI compares are
//! instructions (`instructions`).

use std::time::Duration;

use criterion::{Criterion, criterion_group, criterion_main};

mod cases;

fn time(c: &mut Criterion) {
    for case in cases::all() {
        let (subject, variant) = case.name.split_once('/').expect("a case is named subject/variant");
        let mut group = c.benchmark_group(subject);
        group.bench_function(format!("{variant} per {}", case.unit), |bencher| {
            let mut work = (case.set_up)();
            bencher.iter_custom(|calls| {
                let began = std::time::Instant::now();
                (0..calls).for_each(|_| (work.call)());
                began.elapsed().div_f64(work.units)
            });
        });
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(20);
    targets = time
}
criterion_main!(benches);
