package io.r2lock;

import io.r2dbc.postgresql.api.PostgresqlConnection;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Iterator;
import java.util.List;
import java.util.concurrent.TimeUnit;
import java.util.function.BiConsumer;
import java.util.function.Supplier;
import org.jspecify.annotations.Nullable;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;
import reactor.core.publisher.Mono;
import reactor.core.publisher.Sinks;
import reactor.core.scheduler.Scheduler;

/**
 * The connections that heartbeats go over: one, as long as it answers.
 *
 * <p>A question that is not answered in time is asked again over a new connection. Which of its event loops the driver takes for that
 * cannot be relied on (with an even number of loops it may be the same one each time), so it is opened from the loop of a hold,
 * where one is known to run. Whoever answers first stays, the others are closed. All state belongs to the heartbeat's thread.
 */
final class Pulses {

    private static final Logger LOG = LoggerFactory.getLogger(Pulses.class);

    private static final int MOST_OPENING = 3;

    private final ConnectionSource source;
    private final Scheduler scheduler;
    private final long hedgeAfter;
    private final Supplier<@Nullable String> question;
    private final BiConsumer<Long, Pulse.Answer> answer;
    private final Pulse.Listener listener =
            new Pulse.Listener((pulse, said) -> run(() -> answered(pulse, said)), pulse -> run(() -> died(pulse)));
    private final List<Pulse> pulses = new ArrayList<>(1);
    private final Sinks.Empty<Void> ended = Sinks.empty();
    private int opening;
    private int closing;
    private long openedAt;
    private boolean stood;
    private boolean closed;

    /**
     * @param hedgeAfter how long an answer may take, in nanoseconds
     * @param question what to ask now, or {@code null} for nothing
     * @param answer is told when the question was sent, and what was answered
     */
    Pulses(
            ConnectionSource source,
            Scheduler scheduler,
            Duration hedgeAfter,
            Supplier<@Nullable String> question,
            BiConsumer<Long, Pulse.Answer> answer) {
        this.source = source;
        this.scheduler = scheduler;
        this.hedgeAfter = hedgeAfter.toNanos();
        this.question = question;
        this.answer = answer;
        this.openedAt = scheduler.now(TimeUnit.NANOSECONDS) - this.hedgeAfter;
    }

    private void run(Runnable step) {
        scheduler.schedule(step);
    }

    /** Asks, over a connection that owes no answer; the question of one that does is the hedge's business. */
    void ask(long now) {
        for (Pulse pulse : pulses) {
            if (!pulse.isAsking()) {
                askOver(pulse, now);
                return;
            }
        }
    }

    private void askOver(Pulse pulse, long now) {
        String sql = question.get();
        if (sql != null) {
            pulse.ask(sql, now);
        }
    }

    /** Whether no answer has come for so long that it is worth a look why. */
    boolean areLate(long now) {
        return pulses.stream().allMatch(pulse -> pulse.isAsking() && now - pulse.askedAt() > hedgeAfter / 2);
    }

    /** Opens one more connection where every answer is late, from an event loop that runs, if one is known. */
    void hedge(long now, @Nullable Scheduler running) {
        pulses.forEach(pulse -> pulse.look(now));
        boolean late = pulses.stream().allMatch(pulse -> pulse.isAsking() && now - pulse.askedAt() > hedgeAfter);
        boolean first = pulses.isEmpty() && opening == 0;
        if (late && opening < MOST_OPENING && (first || now - openedAt > hedgeAfter)) {
            if (pulses.size() > MOST_OPENING) {
                close(pulses.remove(0));
            }
            open(now, running == null ? Opening.THREADS : running);
        }
    }

    /** Time that does not count. */
    void shift(long nanos) {
        openedAt += nanos;
    }

    /** Whether no answer can have been read, whatever the server sent; also where none could be asked for yet. */
    boolean areStalled(long now) {
        if (!stood) {
            return true;
        }
        return !pulses.isEmpty() && pulses.stream().allMatch(pulse -> pulse.isStalled(now, hedgeAfter));
    }

    private void open(long now, Scheduler from) {
        openedAt = now;
        opening++;
        source.openForHeartbeat(from).subscribe(this::connected, error -> run(() -> notOpened(error)));
    }

    private void connected(PostgresqlConnection wire) {
        Pulse pulse = new Pulse(wire, listener);
        run(() -> opened(pulse));
    }

    private void opened(Pulse pulse) {
        opening--;
        if (closed) {
            close(pulse);
            return;
        }
        stood = true;
        pulses.add(pulse);
        askOver(pulse, scheduler.now(TimeUnit.NANOSECONDS));
    }

    private void notOpened(Throwable error) {
        opening--;
        endIfIdle();
        LOG.debug("No connection for heartbeats; it is tried again", error);
    }

    private void died(Pulse pulse) {
        pulses.remove(pulse);
    }

    private void answered(Pulse from, Pulse.Answer said) {
        from.isAnswered();
        if (!pulses.contains(from)) {
            return;
        }
        for (Iterator<Pulse> all = pulses.iterator(); all.hasNext(); ) {
            Pulse pulse = all.next();
            if (pulse != from) {
                all.remove();
                close(pulse);
            }
        }
        answer.accept(from.askedAt(), said);
    }

    /** Ends when every connection is closed; one that is being opened is waited for, but not for long. */
    Mono<Void> close() {
        return Mono.defer(() -> {
                    run(this::startToClose);
                    return ended.asMono();
                })
                .timeout(Duration.ofSeconds(LockConnection.STOP_DEADLINE_SECONDS), Mono.empty(), scheduler);
    }

    private void startToClose() {
        closed = true;
        source.close();
        pulses.forEach(this::close);
        pulses.clear();
        endIfIdle();
    }

    private void close(Pulse pulse) {
        closing++;
        pulse.close()
                .subscribe(
                        nothing -> {},
                        error -> {},
                        () -> run(() -> {
                            closing--;
                            endIfIdle();
                        }));
    }

    private void endIfIdle() {
        if (closed && opening == 0 && closing == 0) {
            ended.tryEmitEmpty();
        }
    }
}
