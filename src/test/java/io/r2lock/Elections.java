package io.r2lock;

import java.time.Duration;
import java.util.List;
import java.util.Queue;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.concurrent.atomic.AtomicReference;
import java.util.function.Function;
import java.util.stream.Stream;
import org.jspecify.annotations.Nullable;
import org.reactivestreams.Publisher;
import reactor.core.Disposable;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** Candidates of one election over a {@link FakeClient}, and what happened to them, in its order. */
final class Elections {

    private final AtomicLong terms = new AtomicLong();
    final LeadershipEvents events;
    final Queue<LeadershipEvent> told = new ConcurrentLinkedQueue<>();

    /** What is told of the work and of its caller, and the messages to the server. */
    final Queue<String> happened = new ConcurrentLinkedQueue<>();

    private final FakeClient client;

    /** Where the tokens come from. */
    volatile Function<HeldLock, Mono<FencingToken>> tokens =
            hold -> Mono.fromSupplier(() -> FencingToken.parse(Long.toString(terms.incrementAndGet())));

    Elections(FakeClient client) {
        this.client = client;
        this.events = new LeadershipEvents(FakeClient.KEY, client.clock);
        // without the thread of their own that subscribers have, so that it can be said what comes first
        events.unbuffered().subscribe(event -> {
            told.add(event);
            happened.add(event.kind().name());
        });
    }

    <T> Flux<T> lead(Function<? super Leadership, ? extends Publisher<T>> work) {
        return Flux.defer(
                () -> new Candidate<T>(client.locks, FakeClient.KEY, hold -> tokens.apply(hold), events, work).lead());
    }

    List<LeadershipEvent.Kind> kinds() {
        return told.stream().map(LeadershipEvent::kind).toList();
    }

    /** Waits for exactly these events to have been told, which some are after a release only. */
    void assertTold(LeadershipEvent.Kind... kinds) {
        FakeClient.until(List.of(kinds) + ", told were " + told, () -> kinds().equals(List.of(kinds)));
    }

    /** A candidate whose work never ends by itself. */
    final class Idle {

        final AtomicReference<@Nullable Leadership> leadership = new AtomicReference<>();
        final AtomicInteger begun = new AtomicInteger();
        final AtomicInteger cancelled = new AtomicInteger();
        final AtomicInteger ended = new AtomicInteger();
        /** Whether the lock was still held when the work was cancelled, each time. */
        final Queue<Boolean> heldAtCancel = new ConcurrentLinkedQueue<>();

        final AtomicReference<@Nullable Throwable> error = new AtomicReference<>();
        final Disposable call;

        Idle() {
            call = lead(given -> {
                        leadership.set(given);
                        return Flux.deferContextual(context -> {
                                    Hold hold = context.get(client.locks);
                                    return Flux.never().doOnCancel(() -> heldAtCancel.add(hold.isOpen()));
                                })
                                .doOnSubscribe(subscription -> {
                                    begun.incrementAndGet();
                                    happened.add("work");
                                })
                                .doOnCancel(() -> {
                                    cancelled.incrementAndGet();
                                    happened.add("cancelled");
                                });
                    })
                    .subscribe(
                            item -> {},
                            failure -> {
                                error.set(failure);
                                happened.add("failed");
                            },
                            ended::incrementAndGet);
        }

        Leadership leadership() {
            return java.util.Objects.requireNonNull(leadership.get());
        }

        /** Lets time go by until it leads again; answers how much of it. */
        Duration untilLeader(int term) {
            long start = client.clock.now(TimeUnit.MILLISECONDS);
            FakeClient.until("term " + term, () -> {
                client.clock.advanceTimeBy(Duration.ofMillis(10));
                return begun.get() == term;
            });
            return Duration.ofMillis(client.clock.now(TimeUnit.MILLISECONDS) - start);
        }

        void assertIsLeader(int term) {
            FakeClient.until("term " + term, () -> begun.get() == term && cancelled.get() == term - 1);
        }
    }

    /** Each election is followed by one end, of the same term, and terms only grow. */
    static boolean isWellFormed(Stream<LeadershipEvent> events) {
        long last = 0;
        boolean leads = false;
        for (LeadershipEvent event : events.toList()) {
            boolean elected = event.kind() == LeadershipEvent.Kind.ELECTED;
            long term = event.term().asLong();
            if (elected == leads || (elected ? term <= last : term != last)) {
                return false;
            }
            leads = elected;
            last = term;
        }
        return !leads;
    }
}
