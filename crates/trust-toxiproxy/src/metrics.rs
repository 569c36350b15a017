//! Traffic as Prometheus reads it. The names of Toxiproxy are here, and no more of it.
//!
//! The text is that of the library, in version 0.0.4 of the format. OpenMetrics differs by a line
//! at the end, and by the names of counters in the lines about them, which have no `_total`.

use std::collections::BTreeMap;

use prometheus::proto::{
    Bucket, Counter, Gauge, Histogram, LabelPair, Metric, MetricFamily, MetricType,
};
use prometheus::{Encoder, TextEncoder};

use crate::process_metrics::ProcessMetrics;
use crate::traffic::{
    LATENESS_BOUNDS_US, LatenessHistogram, ProxyTraffic, RuleReport, StreamTotals, TrafficReport,
};

/// Which metrics there are. Without any there is no `/metrics`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MetricsChoice {
    /// Those of proxies, connections and faults.
    pub traffic: bool,
    /// Those of the process.
    pub process: bool,
}

/// How metrics are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricsFormat {
    /// The text format of Prometheus, version 0.0.4.
    Prometheus,
    /// OpenMetrics 1.0.
    OpenMetrics,
}

impl MetricsChoice {
    /// Whether there are any.
    pub const fn has_some(self) -> bool {
        self.traffic || self.process
    }

    /// All of them that are chosen. The report is asked for if it is needed.
    pub fn text(self, report: impl FnOnce() -> TrafficReport, format: MetricsFormat) -> String {
        let mut families = vec![];
        if self.traffic {
            families.extend(traffic_families(&report()));
        }
        if self.process {
            families.extend(process_families(&ProcessMetrics::now()));
        }
        families.retain(|family| !family.get_metric().is_empty());
        format.text(&families)
    }
}

impl MetricsFormat {
    /// The format that a client prefers: OpenMetrics if it is named, and not as the lesser one.
    pub fn preferred(accept: &str) -> MetricsFormat {
        let weight = |name: &str| {
            let ranges = accept.split(',').filter_map(|range| {
                let mut parts = range.split(';').map(str::trim);
                if !parts.next()?.eq_ignore_ascii_case(name) {
                    return None;
                }
                let weight = parts.find_map(|part| part.strip_prefix("q="));
                weight.map_or(Some(1.0), |weight| weight.parse::<f64>().ok())
            });
            ranges.fold(0.0, f64::max)
        };
        let open_metrics = weight("application/openmetrics-text");
        if open_metrics > 0.0 && open_metrics >= weight("text/plain") {
            MetricsFormat::OpenMetrics
        } else {
            MetricsFormat::Prometheus
        }
    }

    /// The type of a body in this format.
    pub const fn content_type(self) -> &'static str {
        match self {
            MetricsFormat::Prometheus => "text/plain; version=0.0.4; charset=utf-8",
            MetricsFormat::OpenMetrics => {
                "application/openmetrics-text; version=1.0.0; charset=utf-8"
            }
        }
    }

    fn text(self, families: &[MetricFamily]) -> String {
        let mut bytes = vec![];
        let encoded = TextEncoder::new().encode(families, &mut bytes);
        encoded.expect("memory takes everything, and no family is empty");
        let text = String::from_utf8(bytes).expect("names and labels are text");
        match self {
            MetricsFormat::Prometheus => text,
            MetricsFormat::OpenMetrics => {
                text.lines().map(open_metrics_line).collect::<String>() + "# EOF\n"
            }
        }
    }
}

/// A line of OpenMetrics. Only counters have names that end in `_total`, and a newline in a label
/// is escaped.
fn open_metrics_line(line: &str) -> String {
    let mut words = line.splitn(4, ' ');
    match (words.next(), words.next(), words.next(), words.next()) {
        (Some("#"), Some(kind), Some(name), Some(rest)) => {
            format!("# {kind} {} {rest}\n", name.strip_suffix("_total").unwrap_or(name))
        }
        _ => format!("{line}\n"),
    }
}

fn traffic_families(report: &TrafficReport) -> Vec<MetricFamily> {
    let by_proxy = |value: fn(&ProxyTraffic) -> u64| -> Vec<(Labels<'_>, u64)> {
        let proxies = report.proxies.iter();
        proxies.map(|it| (vec![("proxy", &*it.proxy)], value(it))).collect()
    };
    vec![
        counters(
            "toxiproxy_proxy_received_bytes_total",
            "Bytes that a proxy has received, by direction.",
            by_stream(report, toxiproxy_labels, |totals| totals.received),
        ),
        counters(
            "toxiproxy_proxy_sent_bytes_total",
            "Bytes that a proxy has passed on, by direction.",
            by_stream(report, toxiproxy_labels, |totals| totals.sent),
        ),
        gauges(
            "trustctl_proxy_held_bytes",
            "Bytes that a proxy holds now, by direction.",
            by_stream(
                report,
                |it, direction| vec![("direction", direction), ("proxy", &it.proxy)],
                |totals| totals.held,
            ),
        ),
        counters(
            "trustctl_proxy_connections_total",
            "Connections that a proxy has accepted.",
            by_proxy(|it| it.connections),
        ),
        gauges(
            "trustctl_proxy_open_connections",
            "Connections of a proxy that are open.",
            by_proxy(|it| it.open),
        ),
        counters(
            "trustctl_proxy_rejected_connections_total",
            "Clients that a proxy has turned away.",
            by_proxy(|it| it.rejected),
        ),
        counters(
            "trustctl_proxy_faults_total",
            "How often a fault rule has fired since it was set.",
            faults(&report.rules),
        ),
        lateness(&report.lateness),
    ]
}

/// Names and values, in the order of the names.
type Labels<'a> = Vec<(&'static str, &'a str)>;

fn toxiproxy_labels<'a>(of: &'a ProxyTraffic, direction: &'a str) -> Labels<'a> {
    vec![
        ("direction", direction),
        ("listener", &of.listen),
        ("proxy", &of.proxy),
        ("upstream", &of.upstream),
    ]
}

fn by_stream<'a>(
    report: &'a TrafficReport,
    labels: fn(&'a ProxyTraffic, &'a str) -> Labels<'a>,
    value: fn(&StreamTotals) -> u64,
) -> Vec<(Labels<'a>, u64)> {
    let both = |it: &'a ProxyTraffic| {
        [("upstream", &it.streams.up), ("downstream", &it.streams.down)]
            .map(|(direction, totals)| (labels(it, direction), value(totals)))
    };
    report.proxies.iter().flat_map(both).collect()
}

/// A rule that was given twice is one.
fn faults(rules: &[RuleReport]) -> Vec<(Labels<'_>, u64)> {
    let mut sums: BTreeMap<Labels<'_>, u64> = BTreeMap::new();
    for RuleReport { rule, proxy, toxic, fired } in rules {
        let proxy = proxy.iter().map(|proxy| ("proxy", &**proxy));
        let toxic = toxic.iter().map(|toxic| ("toxic", &**toxic));
        *sums.entry(proxy.chain([("rule", &**rule)]).chain(toxic).collect()).or_default() += fired;
    }
    sums.into_iter().collect()
}

fn lateness(LatenessHistogram { counts, sum }: &LatenessHistogram) -> MetricFamily {
    let mut total = 0;
    let buckets = LATENESS_BOUNDS_US.iter().zip(counts).map(|(bound_us, count)| {
        total += count;
        let mut bucket = Bucket::default();
        bucket.set_upper_bound(*bound_us as f64 / 1e6);
        bucket.set_cumulative_count(total);
        bucket
    });
    let mut histogram = Histogram::default();
    histogram.set_bucket(buckets.collect());
    histogram.set_sample_count(counts.iter().sum());
    histogram.set_sample_sum(sum.as_secs_f64());
    let mut metric = Metric::default();
    metric.set_histogram(histogram);
    let help = "How late bytes were sent that waited for a time.";
    family("trustctl_proxy_send_lateness_seconds", help, MetricType::HISTOGRAM, vec![metric])
}

fn process_families(process: &ProcessMetrics) -> Vec<MetricFamily> {
    let gauge = |name, help, value: Option<f64>| {
        let metric = value.map(|value| gauge(vec![], value));
        family(name, help, MetricType::GAUGE, metric.into_iter().collect())
    };
    let cpu = process.cpu_seconds.map(|value| counter(vec![], value));
    vec![
        family(
            "process_cpu_seconds_total",
            "Processor time that the process has used, in user mode and in the kernel.",
            MetricType::COUNTER,
            cpu.into_iter().collect(),
        ),
        gauge("process_max_fds", "Most descriptors that may be open.", process.descriptors_max),
        gauge("process_open_fds", "Descriptors that are open.", process.descriptors),
        gauge(
            "process_resident_memory_bytes",
            "Memory of the process that is in RAM.",
            process.resident_bytes,
        ),
        gauge(
            "process_start_time_seconds",
            "When the process was started, since 1970.",
            process.start_seconds,
        ),
        gauge(
            "process_virtual_memory_bytes",
            "Address space that the process has.",
            process.virtual_bytes,
        ),
    ]
}

fn counters(
    name: &'static str,
    help: &'static str,
    values: Vec<(Labels<'_>, u64)>,
) -> MetricFamily {
    let metrics = values.into_iter().map(|(labels, value)| counter(labels, value as f64));
    family(name, help, MetricType::COUNTER, metrics.collect())
}

fn gauges(name: &'static str, help: &'static str, values: Vec<(Labels<'_>, u64)>) -> MetricFamily {
    let metrics = values.into_iter().map(|(labels, value)| gauge(labels, value as f64));
    family(name, help, MetricType::GAUGE, metrics.collect())
}

fn counter(labels: Labels<'_>, value: f64) -> Metric {
    let mut counter = Counter::default();
    counter.set_value(value);
    let mut metric = labelled(labels);
    metric.set_counter(counter);
    metric
}

fn gauge(labels: Labels<'_>, value: f64) -> Metric {
    let mut gauge = Gauge::default();
    gauge.set_value(value);
    let mut metric = labelled(labels);
    metric.set_gauge(gauge);
    metric
}

fn labelled(labels: Labels<'_>) -> Metric {
    let pairs = labels.into_iter().map(|(name, value)| {
        let mut pair = LabelPair::default();
        pair.set_name(name.to_owned());
        pair.set_value(value.to_owned());
        pair
    });
    let mut metric = Metric::default();
    metric.set_label(pairs.collect());
    metric
}

fn family(name: &str, help: &str, kind: MetricType, metrics: Vec<Metric>) -> MetricFamily {
    let mut family = MetricFamily::default();
    family.set_name(name.to_owned());
    family.set_help(help.to_owned());
    family.set_field_type(kind);
    family.set_metric(metrics);
    family
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::traffic::BothWays;

    fn report() -> TrafficReport {
        let totals = |received, sent, held| StreamTotals { received, sent, held };
        let streams = BothWays { up: totals(5, 4, 1), down: totals(7, 7, 0) };
        let [proxy, listen, upstream] = ["a\"\\\nb", "127.0.0.1:1", "u:2"].map(str::to_owned);
        let proxy =
            ProxyTraffic { proxy, listen, upstream, streams, connections: 3, open: 2, rejected: 1 };
        let rule = |proxy: Option<&str>, toxic: Option<&str>, fired| RuleReport {
            rule: "rst @ byte 5 up".to_owned(),
            proxy: proxy.map(str::to_owned),
            toxic: toxic.map(str::to_owned),
            fired,
        };
        let rules = vec![
            rule(None, None, 1),
            rule(Some("p"), Some("t"), 2),
            rule(Some("p"), None, 3),
            rule(Some("p"), None, 4),
        ];
        let mut lateness = LatenessHistogram::default();
        for late_us in [10, 60, 2_000_000] {
            lateness.record(Duration::from_micros(late_us));
        }
        TrafficReport { proxies: vec![proxy], rules, lateness, ..TrafficReport::default() }
    }

    const TRAFFIC: MetricsChoice = MetricsChoice { traffic: true, process: false };

    #[test]
    fn traffic_has_the_names_and_labels_of_toxiproxy_and_ours() {
        let text = TRAFFIC.text(report, MetricsFormat::Prometheus);
        let labels = |direction| {
            format!(r#"direction="{direction}",listener="127.0.0.1:1",proxy="a\"\\\nb""#)
        };
        for (name, up, down) in [("received", 5, 7), ("sent", 4, 7)] {
            for (direction, value) in [("upstream", up), ("downstream", down)] {
                let name = format!("toxiproxy_proxy_{name}_bytes_total");
                let line = format!("\n{name}{{{},upstream=\"u:2\"}} {value}\n", labels(direction));
                assert!(text.contains(&line), "{line} in {text}");
            }
        }
        for line in [
            "# TYPE toxiproxy_proxy_received_bytes_total counter",
            "# TYPE trustctl_proxy_open_connections gauge",
            r#"trustctl_proxy_held_bytes{direction="upstream",proxy="a\"\\\nb"} 1"#,
            r#"trustctl_proxy_connections_total{proxy="a\"\\\nb"} 3"#,
            r#"trustctl_proxy_open_connections{proxy="a\"\\\nb"} 2"#,
            r#"trustctl_proxy_rejected_connections_total{proxy="a\"\\\nb"} 1"#,
            r#"trustctl_proxy_faults_total{rule="rst @ byte 5 up"} 1"#,
            r#"trustctl_proxy_faults_total{proxy="p",rule="rst @ byte 5 up",toxic="t"} 2"#,
            r#"trustctl_proxy_faults_total{proxy="p",rule="rst @ byte 5 up"} 7"#,
            r#"trustctl_proxy_send_lateness_seconds_bucket{le="0.00005"} 1"#,
            r#"trustctl_proxy_send_lateness_seconds_bucket{le="0.0001"} 2"#,
            r#"trustctl_proxy_send_lateness_seconds_bucket{le="1"} 2"#,
            r#"trustctl_proxy_send_lateness_seconds_bucket{le="+Inf"} 3"#,
            "trustctl_proxy_send_lateness_seconds_sum 2.00007",
            "trustctl_proxy_send_lateness_seconds_count 3",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} in {text}");
        }
        let described = |kind| text.lines().filter(|line| line.starts_with(kind)).count();
        assert_eq!((described("# HELP "), described("# TYPE ")), (8, 8));
    }

    #[test]
    fn without_proxies_there_are_no_families_of_them() {
        let text = TRAFFIC.text(TrafficReport::default, MetricsFormat::Prometheus);
        assert!(text.starts_with("# HELP trustctl_proxy_send_lateness_seconds "), "{text}");
        let none =
            MetricsChoice::default().text(|| panic!("not needed"), MetricsFormat::Prometheus);
        assert_eq!(none, "");
    }

    #[test]
    fn open_metrics_has_counters_without_their_suffix_and_an_end() {
        let text = TRAFFIC.text(report, MetricsFormat::OpenMetrics);
        for line in [
            "# TYPE toxiproxy_proxy_sent_bytes counter",
            r#"trustctl_proxy_connections_total{proxy="a\"\\\nb"} 3"#,
            "# TYPE trustctl_proxy_open_connections gauge",
        ] {
            assert!(text.lines().any(|it| it == line), "{line} in {text}");
        }
        assert!(text.ends_with("\n# EOF\n"));
        assert_eq!(text.lines().filter(|line| *line == "# EOF").count(), 1);
    }

    #[test]
    fn open_metrics_comes_only_to_those_who_ask_for_it() {
        use MetricsFormat::{OpenMetrics, Prometheus};
        let cases = [
            ("", Prometheus),
            ("*/*", Prometheus),
            ("text/plain", Prometheus),
            ("application/openmetrics-text", OpenMetrics),
            ("Application/OpenMetrics-Text; version=1.0.0", OpenMetrics),
            ("application/openmetrics-text;version=1.0.0;q=0.5,text/plain;q=0.3", OpenMetrics),
            ("application/openmetrics-text;q=0.3, text/plain;version=0.0.4;q=0.5", Prometheus),
            ("application/openmetrics-text;q=0", Prometheus),
            ("application/openmetrics-text;q=x", Prometheus),
        ];
        for (accept, expected) in cases {
            assert_eq!(MetricsFormat::preferred(accept), expected, "{accept}");
        }
    }

    #[test]
    fn the_process_has_the_names_that_every_exporter_has() {
        let process = MetricsChoice { traffic: false, process: true };
        let text = process.text(|| panic!("not needed"), MetricsFormat::Prometheus);
        let value = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
            line.unwrap_or_else(|| panic!("{name} in {text}")).parse::<f64>().expect("a number")
        };
        assert!(value("process_cpu_seconds_total") >= 0.0);
        assert!((3.0..1e6).contains(&value("process_open_fds")));
        assert!(value("process_max_fds") >= value("process_open_fds"));
        assert!(value("process_resident_memory_bytes") > 1e5);
        assert!(value("process_virtual_memory_bytes") >= value("process_resident_memory_bytes"));
        assert!(value("process_start_time_seconds") > 1.6e9);
    }
}
