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
import reactor.core.publisher.Mono;

/** What README and Javadoc show is code that was compiled, and ran. */
class ExamplesIT {

    private static final Pattern REGION = Pattern.compile("(?s)// region (\\w+)\\n(.*?)\\n *// endregion");
    private static final Pattern README_BLOCK = Pattern.compile("(?s)```java\\n(.*?)\\n```");
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
        locks.close().block(Duration.ofSeconds(10));
    }

    @Test
    void readme_showsRegionsOfTheExamples() throws IOException {
        List<String> shown = blocks(README_BLOCK, Files.readString(Path.of("README.md")));
        assertThat(shown).isNotEmpty().allSatisfy(block -> assertThat(regions()).contains(block));
    }

    @Test
    void javadoc_showsRegionsOfTheExamples() throws IOException {
        List<String> shown = new ArrayList<>();
        try (Stream<Path> sources = Files.walk(Path.of("src/main/java"))) {
            for (Path source : sources.filter(Files::isRegularFile).toList()) {
                for (String block : blocks(JAVADOC_BLOCK, Files.readString(source))) {
                    if (!block.contains("locks.")) {
                        continue; // SQL or Python
                    }
                    shown.add(block.replaceAll("(?m)^ *\\* ?", ""));
                }
            }
        }
        assertThat(shown).isNotEmpty().allSatisfy(block -> assertThat(regions()).contains(block));
    }

    private static List<String> regions() throws IOException {
        String source = Files.readString(Path.of("src/test/java/io/r2lock/Examples.java"));
        Matcher matcher = REGION.matcher(source);
        List<String> regions = new ArrayList<>();
        while (matcher.find()) {
            regions.add(matcher.group(2).stripIndent());
        }
        return regions;
    }

    private static List<String> blocks(Pattern pattern, String text) {
        return pattern.matcher(text).results().map(found -> found.group(1)).toList();
    }
}
