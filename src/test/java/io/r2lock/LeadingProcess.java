package io.r2lock;

import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CopyOnWriteArrayList;
import java.util.concurrent.atomic.AtomicReference;
import org.jspecify.annotations.Nullable;
import reactor.core.Disposable;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;

/**
 * A candidate for one key, whose work does not end by itself. It logs each term as a hold named by its token, and its events.
 *
 * <p>Told {@code resign} it resigns; told {@code complete} its work completes, and with that the candidate.
 */
final class LeadingProcess implements LabProcess.Role {

    static final long KEY = 31_001;
    private static final Duration PATIENCE = Duration.ofSeconds(25);

    private final DefaultAdvisoryLocks client;
    private final HoldLog log;
    private final AtomicReference<@Nullable Leadership> leadership = new AtomicReference<>();
    private final List<LeadershipEvent> events = new CopyOnWriteArrayList<>();
    private final Sinks.Empty<Void> complete = Sinks.empty();
    private final Disposable candidate;

    LeadingProcess(LabProcess process, HoldLog log, boolean quick) {
        AdvisoryLocks.Builder builder = process.client().connectTimeout(PATIENCE);
        if (quick) {
            // half the time of the defaults, and so half the time of a test
            builder.heartbeat(Duration.ofSeconds(1))
                    .heartbeatDeadline(Duration.ofSeconds(1))
                    .connectionSetting("tcp_keepalives_idle", "2")
                    .connectionSetting("tcp_keepalives_interval", "1")
                    .connectionSetting("tcp_keepalives_count", "3")
                    .connectionSetting("tcp_user_timeout", "5000");
        }
        this.client = (DefaultAdvisoryLocks) builder.build();
        this.log = log;
        LeaderElection election = client.leaderElection(LockKey.of(KEY));
        election.events().subscribe(event -> {
            log.event(event);
            events.add(event);
        });
        this.candidate = election.lead(this::work).subscribe(item -> {}, failure -> log.refused(failure), () -> {});
    }

    private Mono<Void> work(Leadership given) {
        String id = Long.toString(given.term().asLong());
        given.lost()
                .subscribe(
                        nothing -> {},
                        lost -> log.told(id, LabHold.Outcome.LOST),
                        () -> log.told(id, LabHold.Outcome.ENDED));
        return Mono.deferContextual(context -> {
                    SessionHold hold = context.get(client);
                    log.begin(id, true, List.of(KEY), hold.backendPids());
                    leadership.set(given);
                    return complete.asMono();
                })
                .doOnCancel(() -> log.end(id))
                .doOnTerminate(() -> log.end(id));
    }

    @Override
    public void command(String line) {
        switch (line) {
            case "resign" -> {
                Leadership current = leadership.get();
                if (current != null) {
                    current.resign().subscribe();
                }
            }
            case "complete" -> complete.tryEmitEmpty();
            default -> throw new IllegalArgumentException(line);
        }
    }

    @Override
    public void end() {
        candidate.dispose();
        client.close().block(PATIENCE);
        // told on a thread of their own
        Await.until("the end of the last term", () -> Elections.isWellFormed(new ArrayList<>(events).stream()));
    }
}
