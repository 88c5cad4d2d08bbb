package io.r2lock;

import static org.assertj.core.api.Assertions.assertThat;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.regex.Matcher;
import java.util.regex.Pattern;
import java.util.stream.Stream;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.extension.RegisterExtension;
import reactor.core.publisher.Flux;
import reactor.core.publisher.Mono;

/** What README and Javadoc show is code that was compiled, and ran. */
class ExamplesIT {

    private static final Pattern REGION = Pattern.compile("(?s)(//|#|--) region (\\w+)\\n(.*?)\\n *\\1 endregion");
    private static final Pattern README_BLOCK = Pattern.compile("(?s)```(?:java|python|sql)\\n(.*?)\\n```");
    private static final Pattern JAVADOC_BLOCK = Pattern.compile("(?s)<pre>\\{@code\\n(.*?)\\n *\\* }</pre>");

    private final TestServer server = TestServer.newest();

    @RegisterExtension
    final NoResidue residue = NoResidue.on(server);

    @Test
    void examples_run() {
        Examples examples = new Examples(server.connectionFactory());
        assertThat(examples.guarded("42").block(Duration.ofSeconds(10))).isEqualTo(new Examples.Receipt("42"));
        AdvisoryLocks locks = AdvisoryLocks.create(server.connectionFactory());
        Examples.acquired(locks, LockKey.named("account", "7")).block(Duration.ofSeconds(10));
        assertThat(Examples.leading(locks).blockFirst(Duration.ofSeconds(10))).isEqualTo(1);
        Examples.inSession(locks, "7", Mono.empty()).block(Duration.ofSeconds(10));
        assertThat(Examples.atMostFourAtOnce(locks, Flux.just("1", "2"))
                        .collectList()
                        .block(Duration.ofSeconds(10)))
                .hasSize(2);
        Examples.fenced(locks, LockKey.named("document", "1"), (document, token) -> Mono.empty(), "text")
                .block(Duration.ofSeconds(10));
        assertThat(Examples.inOrder(locks, Flux.just("1", "2")).collectList().block(Duration.ofSeconds(10)))
                .hasSize(2);
        assertThat(Examples.stuck(locks).collectList().block(Duration.ofSeconds(10)))
                .isEmpty();
        examples.ambient().close().block(Duration.ofSeconds(10));
        locks.close().block(Duration.ofSeconds(10));
    }

    @Test
    void readme_showsRegionsOfTests() throws IOException {
        List<String> shown = blocks(README_BLOCK, Files.readString(Path.of("README.md")));
        assertThat(shown).isNotEmpty().allSatisfy(block -> assertThat(regions()).contains(block));
    }

    @Test
    void javadoc_showsRegionsOfTests() throws IOException {
        List<String> shown = new ArrayList<>();
        try (Stream<Path> sources = Files.walk(Path.of("src/main/java"))) {
            for (Path source : sources.filter(Files::isRegularFile).toList()) {
                for (String block : blocks(JAVADOC_BLOCK, Files.readString(source))) {
                    if (!block.contains("locks")) {
                        continue; // SQL or Python
                    }
                    shown.add(block.replaceAll("(?m)^ *\\* ?", ""));
                }
            }
        }
        assertThat(shown).isNotEmpty().allSatisfy(block -> assertThat(regions()).contains(block));
    }

    /** Of those files alone that are run: tests, what {@link #examples_run} calls, and the recipes in other languages. */
    private static List<String> regions() throws IOException {
        List<String> regions = new ArrayList<>();
        try (Stream<Path> files = Files.walk(Path.of("src/test"))) {
            for (Path file : files.filter(ExamplesIT::isRun).toList()) {
                Matcher matcher = REGION.matcher(Files.readString(file));
                while (matcher.find()) {
                    regions.add(matcher.group(3).stripIndent());
                }
            }
        }
        return regions;
    }

    private static boolean isRun(Path file) {
        String name = file.getFileName().toString();
        return name.matches("\\w+(IT|Test)\\.java|Examples\\.java|\\w+\\.(py|sql)");
    }

    private static List<String> blocks(Pattern pattern, String text) {
        return pattern.matcher(text).results().map(found -> found.group(1)).toList();
    }
}
