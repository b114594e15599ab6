using MelFusion.KeyValue;
using MelFusion.Tests.Support;
using Shouldly;
using TorchSharp;
using Xunit;
using static TorchSharp.torch;

namespace MelFusion.Tests.KeyValue;

public class ScaledDotProductTests
{
    [Fact]
    public void Attention_over_many_tokens_in_16_bits_is_as_exact_as_16_bits_allow_also_where_scores_are_large()
    {
        using var scope = NewDisposeScope();
        using var noGrad = no_grad();
        using var chance = new Generator(5);
        Tensor Some(long tokens, double size) => (torch.randn([2, tokens, 64], generator: chance) * size).to(ScalarType.BFloat16);
        var (q, k, v) = (Some(2100, 6), Some(2050, 1), Some(2050, 1));

        var y = ScaledDotProduct.Attend(q, new(k, v), heads: 2);

        Tensor Wide(Tensor x) => x.to(ScalarType.Float32);
        y.dtype.ShouldBe(ScalarType.BFloat16);
        Wide(y).ShouldMatch(ScaledDotProduct.Attend(Wide(q), new(Wide(k), Wide(v)), heads: 2), 1e-2);
    }
}
