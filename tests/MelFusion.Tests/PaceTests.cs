using MelFusion.Tests.Support;
using Shouldly;
using Xunit;

namespace MelFusion.Tests;

/// <summary>How long work will still take.</summary>
public sealed class PaceTests
{
    [Fact]
    public void The_rate_is_that_since_the_work_began_and_not_of_what_was_done_before()
    {
        var time = new HandTime();
        var pace = new Pace(time);
        pace.Left("hearing", 100, 130).ShouldBeNull();
        time.Now += TimeSpan.FromSeconds(20);

        pace.Left("hearing", 110, 130).ShouldBe(TimeSpan.FromSeconds(40));
        pace.Left("hearing", 130, 130).ShouldBe(TimeSpan.Zero);
        pace.Left("reading", 5, 10).ShouldBeNull();
    }
}
